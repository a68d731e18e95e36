"""Who comes in, what they may do there, and what they have done."""

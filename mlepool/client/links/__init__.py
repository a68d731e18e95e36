"""Ways to one worker: known, dialled, talked over, made again."""

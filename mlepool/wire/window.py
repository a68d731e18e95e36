"""Flow control: byte credit per stream of output, as absolute positions."""

__all__ = ["ReceiveWindow", "SendWindow"]


class SendWindow:
    """The sender's side: how far it may send.

    Args:
        position: Journal position of the first byte to send.
        window: Bytes that may be sent from there.
    """

    def __init__(self, position: int, window: int) -> None:
        self.position = position
        self.limit = position + window

    @property
    def allowed(self) -> int:
        """Bytes that may be sent now."""
        return max(0, self.limit - self.position)

    def skip(self, position: int) -> None:
        """Go on from a later position: what lies between is not sent."""
        self.limit += position - self.position
        self.position = position

    def sent(self, count: int) -> None:
        """Note that bytes were sent."""
        self.position += count

    def grant(self, limit: int) -> None:
        """Take credit up to a position; late credit never takes any back."""
        self.limit = max(self.limit, limit)


class ReceiveWindow:
    """The receiver's side: when to give credit, and how much.

    Credit is given again once half of the window is used up, so that a fast reader
    costs one small message per half window.

    Args:
        position: Journal position of the first byte expected.
        window: Bytes that may be on their way or unread at any time.
    """

    def __init__(self, position: int, window: int) -> None:
        self.window = window
        self.limit = position + window

    def skip(self, count: int) -> None:
        """Note that so many bytes will never come."""
        self.limit += count

    def consumed(self, position: int) -> int | None:
        """Note that all before a position is consumed.

        Returns:
            The new limit to tell the sender, or None if there is no need yet.
        """
        if self.limit - position > self.window // 2:
            return None
        self.limit = position + self.window
        return self.limit

"""What can go wrong with the stack, told to a person at a terminal."""


class StackError(Exception):
    """A reason why the stack cannot do what was asked; the message is shown as it is, without a traceback."""

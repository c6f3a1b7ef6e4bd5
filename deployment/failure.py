"""What the user has to know."""


class Failure(Exception):
    """A reason not to deploy. Its text says what is wrong and what would be right."""

"""The exception that ends a deployment with a message to the user."""


class Failure(Exception):
    """A reason not to deploy. Its text says what is wrong and what would be right."""

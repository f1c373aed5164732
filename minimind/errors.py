"""The mistakes of a user, as against those of a program."""


class UserError(ValueError):
    """Something in a file, a key or a value that the user can mend; the message names it, and says how.

    A command that ends with it shows the message alone. Every other exception is a defect, and shows where it arose.
    """

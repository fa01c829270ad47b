"""Commands that run the server's own code: up, replay, verify, doctor. They import it only when they are called."""

import click


@click.command()
def up() -> None:
    """x"""


@click.command()
def replay() -> None:
    """x"""


@click.command()
def verify() -> None:
    """x"""


@click.command()
def doctor() -> None:
    """x"""

"""`python -m relay.sandbox`: the sandbox without the rest of the relay's command line."""

from relay.sandbox.cli import sandbox

if __name__ == "__main__":
    sandbox(prog_name="python -m relay.sandbox")

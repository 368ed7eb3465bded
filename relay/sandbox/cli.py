"""`relay sandbox`: start the emulator of Meta's Cloud API."""

import json
import logging
import sys

import click

from relay.sandbox import defaults
from relay.sandbox.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--seed", default="relaydesk", show_default=True, help="Makes ids, names and delays repeatable."
)
@click.option(
    "--callback-url", help="Where the demo app's webhooks go, e.g. http://127.0.0.1:8000/webhooks/meta."
)
@click.option("--verify-token", default=defaults.VERIFY_TOKEN, show_default=True)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Verify callbacks before using them."
)
@click.option("--app-id", default=defaults.APP_ID, show_default=True)
@click.option("--app-secret", default=defaults.APP_SECRET, show_default=True, help="Signs the webhooks.")
@click.option("--access-token", default=defaults.ACCESS_TOKEN, show_default=True)
@click.option("--waba-id", default=defaults.WABA_ID, show_default=True)
@click.option(
    "--phone-number-id",
    "phone_number_ids",
    multiple=True,
    help=f"Ids of the demo numbers; may be repeated. Default: {', '.join(defaults.PHONE_NUMBER_IDS)}.",
)
@click.option(
    "--customers", default=0, show_default=True, type=click.IntRange(0, 10_000), help="Scripted customers."
)
@click.option(
    "--pace",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.001),
    help="Mean seconds between two customers opening a conversation.",
)
@click.option("--limits/--no-limits", default=True, show_default=True, help="Meta's pair and number limits.")
@click.option(
    "--batch-max", default=1, show_default=True, type=click.IntRange(1, 1000), help="Updates per POST."
)
@click.option("--random-order", is_flag=True, help="Deliver statuses and messages in random order.")
@click.option("--duplicate-rate", default=0.0, show_default=True, type=click.FloatRange(0, 1))
@click.option(
    "--retry-scale", default=1.0, show_default=True, type=click.FloatRange(0.0001), help="Scales retries."
)
@click.option("--json", "as_json", is_flag=True, help="Say when ready with one line of JSON.")
def sandbox(
    *,
    host: str,
    port: int,
    seed: str,
    callback_url: str | None,
    verify_token: str,
    verify: bool,
    app_id: str,
    app_secret: str,
    access_token: str,
    waba_id: str,
    phone_number_ids: tuple[str, ...],
    customers: int,
    pace: float,
    limits: bool,
    batch_max: int,
    random_order: bool,
    duplicate_rate: float,
    retry_scale: float,
    as_json: bool,
) -> None:
    """Run an emulator of Meta's Cloud API, with customers that write.

    Prints its address when it is ready, and runs until it is told to stop. Everything else is set at run
    time through the control API, described at /_sandbox/schema.
    """
    # Loaded here, so that other commands of the same program do not pay for the server.
    from relay.sandbox.sandbox import Sandbox, Start  # noqa: PLC0415
    from relay.sandbox.server import serve  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    speed = 1.0 if limits else 0.0
    settings = Settings(
        pair_limit_speed=speed,
        number_limit_speed=speed,
        batch_max=batch_max,
        order="random" if random_order else "natural",
        duplicate_rate=duplicate_rate,
        retry_scale=retry_scale,
    )
    numbers = phone_number_ids or defaults.PHONE_NUMBER_IDS
    start = Start(
        seed=seed,
        verify=verify,
        callback_url=callback_url,
        verify_token=verify_token,
        app_id=app_id,
        app_secret=app_secret,
        access_token=access_token,
        waba_id=waba_id,
        phone_number_ids=numbers,
        customers=customers,
        pace=pace,
        settings=settings,
    )

    def announce(base_url: str) -> None:
        facts = {
            "base_url": base_url,
            "control_url": f"{base_url}/_sandbox",
            "waba_id": waba_id,
            "phone_number_ids": list(numbers),
            "access_token": access_token,
            "app_id": app_id,
            "app_secret": app_secret,
            "verify_token": verify_token,
        }
        if as_json:
            click.echo(json.dumps(facts))
        else:
            click.echo(f"The sandbox is ready at {base_url} (control API: {base_url}/_sandbox/schema)")
            for name, value in facts.items():
                click.echo(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
        sys.stdout.flush()

    try:
        if callback_url is not None:
            from relay.sandbox.callback_client import check_url  # noqa: PLC0415

            check_url(callback_url)
        serve(Sandbox(start), host, port, announce)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error

"""Make the pictures in docs/images from the running program: `.venv/bin/python packaging/screenshots.py`.

Starts the demo without a display, signs a second desktop in beside the demo's own, lets it answer a few
customers by keyboard, and stops the relay for the picture without a connection. Takes a minute and a half.
"""

import asyncio
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from relay.demo import AGENT, EMAIL, PASSWORD
from relay.demo_programs import Desktop

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH, HEIGHT = 1200, 800
CUSTOMERS_SECONDS = 40
REPLIES = (
    "Good morning! Yes, we have it here. *Today until six*, and tomorrow from ten.",
    "Thank you for asking. Let me look it up, one moment please 🙂",
    "Of course. I have put one aside for you.",
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="relaydesk-pictures-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's user passes through
        for part in (folder, folder / "new"):
            (part / "logs").mkdir(parents=True)
        IMAGES.mkdir(parents=True, exist_ok=True)
        asyncio.run(make(folder))


async def make(folder: Path) -> None:
    environment = os.environ | {"DATA_DIR": str(folder / "data"), "PYTHONUNBUFFERED": "1"}
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "demo", "--offscreen"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        url = await address(demo.stdout)
        async with Desktop.running(
            url, (EMAIL, ""), folder / "new", offscreen=True, environment=environment
        ) as desktop:
            await desktop.wait_for("page", 30, page="sign-in")
            await picture(desktop, "sign-in")
        async with Desktop.running(
            url, (EMAIL, PASSWORD), folder, offscreen=True, environment=environment
        ) as desktop:
            await desktop.wait_for("page", 30, page="main")
            await desktop.ask("resize", width=WIDTH, height=HEIGHT)
            await asyncio.sleep(CUSTOMERS_SECONDS)
            await answer_some(desktop)
            for mode in ("light", "dark"):
                await desktop.ask("theme", mode=mode)
                await picture(desktop, f"inbox-{mode}")
            await desktop.ask("theme", mode="light")
            demo.send_signal(signal.SIGTERM)
            await desktop.wait_for("banner", 60, text="")
            await desktop.ask("type", text="I will be with you as soon as we are back")
            await desktop.ask("press", key="Return")
            await picture(desktop, "offline")
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGTERM)
        await demo.wait()


async def address(output: asyncio.StreamReader | None) -> str:
    """Where the demo's relay is, once its customers write."""
    while output is not None and (line := await output.readline()):
        if found := re.search(r"Sign in elsewhere .* at (\S+)\.$", line.decode().rstrip()):
            return found[1]
    raise SystemExit("The demo did not come up.")


async def answer_some(desktop: Desktop) -> None:
    rows = (await desktop.ask("rows"))["rows"]
    for row, reply in reversed(list(zip(rows, REPLIES, strict=False))):
        await desktop.ask("open", text=row["title"])
        await asyncio.sleep(1)
        await desktop.ask("type", text=reply)
        await desktop.ask("press", key="Return")
        await asyncio.sleep(4)


async def picture(desktop: Desktop, name: str) -> None:
    await asyncio.sleep(1)
    await desktop.ask("screenshot", path=str(IMAGES / f"{name}.png"))
    sys.stdout.write(f"{name}.png, as {AGENT}\n")


if __name__ == "__main__":
    main()

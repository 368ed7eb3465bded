"""The programs of the demo as children: started with a log file each, spoken to, and stopped in order."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx

from relay.kit.errors import OperatorError

STOP_SECONDS: Final = 45.0
"""More than the relay's own grace."""
QUIT_SECONDS: Final = 10.0
LOG_TAIL_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


class DemoError(OperatorError):
    """The demo cannot go on; the message says why."""


class Program:
    """A child process. Its errors, and its output unless we read it, go into its log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.name = name
        self.process = process
        self._log_file = log_file

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        logs: Path,
        *,
        read_output: bool = False,
    ) -> AsyncIterator[Self]:
        """Run it until the block ends."""
        log_file = logs / f"{name}.log"
        with log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if read_output else log,
                stderr=log,
                limit=1024 * 1024,
                start_new_session=True,  # Ctrl+C reaches us alone, and we stop them in order
                preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
            )
        program = cls(name, process, log_file)
        try:
            yield program
        finally:
            await asyncio.shield(program._stop())

    @property
    def input(self) -> asyncio.StreamWriter:
        if self.process.stdin is None:
            raise RuntimeError(f"{self.name} has no such end")
        return self.process.stdin

    @property
    def output(self) -> asyncio.StreamReader:
        if self.process.stdout is None:
            raise RuntimeError(f"{self.name} has no such end")
        return self.process.stdout

    async def _stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def require_alive(self) -> None:
        """Raises DemoError with the log's end if it has stopped."""
        if self.process.returncode is not None:
            raise DemoError(self.obituary())

    def obituary(self) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        end = "\n".join(f"    {line}" for line in lines)
        code = self.process.returncode
        return f"The {self.name} has stopped (exit code {code}). {self._log_file} ends:\n{end}"

    @staticmethod
    async def first_to_end(*programs: "Program") -> "Program":
        waiting = {asyncio.ensure_future(program.process.wait()): program for program in programs}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return waiting[done.pop()]


def _stop_with_parent() -> None:
    """In the child: be told to stop when we die, however suddenly."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Sandbox:
    """Meta's stand-in, without customers at first."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self._url = f"{url}/_sandbox"

    @classmethod
    @asynccontextmanager
    async def running(cls, port: int, environment: Mapping[str, str], logs: Path) -> AsyncIterator[Self]:
        """Started, but perhaps not ready yet, when the block begins."""
        command = [sys.executable, "-m", "relay.sandbox", "--port", str(port), "--json"]
        async with Program.running("sandbox", command, environment, logs, read_output=True) as program:
            yield cls(program, f"http://127.0.0.1:{port}")

    async def ready(self) -> None:
        """Wait for the line with which it says so. Raises DemoError."""
        if not await self.program.output.readline():
            await self.program.process.wait()
            raise DemoError(self.program.obituary())

    async def deliver_to(self, app_id: str, callback_url: str) -> None:
        """Where webhooks go from now on; the callback is verified."""
        await self._control("PATCH", f"apps/{app_id}", {"callback_url": callback_url})

    async def say(self, phone: str, name: str, text: str) -> None:
        """A customer writes."""
        await self._control("POST", "say", {"from": phone, "name": name, "text": text})

    async def bring_customers(self, count: int, pace: float) -> None:
        """So many scripted customers, one opening a conversation every `pace` seconds."""
        await self._control("POST", "people", {"customers": count, "pace": pace})

    async def _control(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        async with httpx.AsyncClient() as http:
            (await http.request(method, f"{self._url}/{path}", json=body)).raise_for_status()


class Desktop:
    """The desktop, driven by its `--automation`."""

    def __init__(self, program: Program, *, offscreen: bool, fell_back: bool) -> None:
        self.program = program
        self.offscreen = offscreen
        self.fell_back = fell_back
        """There is a display, but the desktop could not use it."""
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._painted: list[tuple[str, str]] = []
        self.first_painted: dict[str, float] = {}
        """When a bubble with this text was first on screen, by the wall clock in seconds."""
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        relay_url: str,
        credentials: tuple[str, str],
        folder: Path,
        *,
        offscreen: bool,
        environment: Mapping[str, str],
    ) -> AsyncIterator[Self]:
        """Running and signing in when the block begins."""
        program_file = Path(sys.executable).with_name("relaydesk")
        if not program_file.exists():
            raise DemoError("The desktop is not installed here: pip install 'relaydesk[relay,desktop]'")
        email, password = credentials
        command = [str(program_file), "--automation", "--relay-url", relay_url, "--email", email]
        command += ["--profile-dir", str(folder / "desktop"), "--keyring", "memory"]
        environment = {**environment, "RELAYDESK_PASSWORD": password}
        for off in (True,) if offscreen else (False, True):
            options = ["--offscreen"] if off else []
            async with Program.running(
                "desktop", [*command, *options], environment, folder / "logs", read_output=True
            ) as program:
                desktop = cls(program, offscreen=off, fell_back=off and not offscreen)
                reading = asyncio.create_task(desktop._read())
                try:
                    if await desktop._comes_up() or off:
                        program.require_alive()
                        yield desktop
                        return
                finally:
                    await asyncio.shield(desktop._quit())
                    reading.cancel()

    async def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """The answer to a command. Raises DemoError for a refusal, with what is on screen."""
        answer = await self._command(do, **command)
        if not answer["ok"]:
            state = await self._command("state")
            raise DemoError(
                f"The desktop, asked to {do} {command}, says: {answer['error']}.\nIts state: {state}"
            )
        return answer

    async def wait_for(self, what: str, timeout: float, **command: Any) -> dict[str, Any]:
        """Wait for a page, row or bubble. Raises DemoError."""
        return await self.ask("wait", **{"for": what}, timeout=timeout, **command)

    async def painted(self, text: str, ticks: Collection[str], timeout: float) -> None:
        """Wait until a bubble with this text was painted with one of these ticks. Raises DemoError."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(
                    lambda: any(text in shown and tick in ticks for shown, tick in self._painted)
                )
        except TimeoutError:
            seen = [tick for shown, tick in self._painted if text in shown]
            raise DemoError(
                f"“{text}” was not painted as {' or '.join(ticks)} within {timeout:.0f} s, only as {seen}."
            ) from None

    async def _comes_up(self) -> bool:
        """False if it ends instead, as it does where the display cannot be used."""
        asking = asyncio.ensure_future(self._command("state"))
        await asyncio.wait({asking})
        return asking.exception() is None

    async def _quit(self) -> None:
        """Let it end as if its window had been closed, so that it saves what it has to."""
        self.program.input.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await self.program.process.wait()

    async def _command(self, do: str, **command: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.program.input.write(json.dumps({"id": number, "do": do, **command}).encode() + b"\n")
        return await answer

    async def _read(self) -> None:
        while line := await self.program.output.readline():
            report = json.loads(line)
            if report.get("event") == "painted":
                async with self._news:
                    self._painted.append((report["text"], report["tick"]))
                    self.first_painted.setdefault(report["text"], report["at"])
                    self._news.notify_all()
            elif (answer := self._answers.pop(report.get("id"), None)) and not answer.done():
                answer.set_result(report)
        await self.program.process.wait()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DemoError(self.program.obituary()))

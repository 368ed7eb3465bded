"""Dialogs that a coroutine can wait for.

`QDialog.exec()` inside a coroutine starts a nested loop in which no other task runs, and none afterwards
either: their wake-ups are consumed. `ask` opens the dialog and waits for its `finished` signal.
"""

import asyncio

from PySide6.QtWidgets import QDialog


async def ask(dialog: QDialog) -> int:
    """Show `dialog` and give its result code (`QDialog.DialogCode`). Closes it if the caller is cancelled."""
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_finished(result: int) -> None:
        if not answer.done():
            answer.set_result(result)

    dialog.finished.connect(on_finished)
    dialog.open()
    try:
        return await answer
    finally:
        dialog.finished.disconnect(on_finished)
        if dialog.isVisible():
            dialog.close()

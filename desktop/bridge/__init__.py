"""Between the GUI thread and the engine thread. The only place where both Qt and the engine are known.

A view-model gets the one `Bridge` and uses three things:

    bridge.events.connect(self.on_events)        # batches of typed events, on the GUI thread
    row = await bridge.call(lambda engine: engine.queries.conversation(id))
    tasks.spawn(self._load(), name="load inbox", owner=self)

`bridge.call` runs a coroutine of the engine on its own thread and gives the result (or raises what it
raised: `desktop.errors.UserFacing` is for showing) in the GUI's qasync loop, with a time limit.
`tasks.spawn` starts a coroutine in the GUI's loop: it keeps the task alive, cancels it with its owner and
reports its failure. A dialog inside a coroutine is `await dialogs.ask(dialog)`, never `exec()`.

Files: `runtime` the engine's thread, `bridge` the QObject, `tasks`, `dialogs`.
"""

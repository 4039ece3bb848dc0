"""The client for code without an event loop: Django, Flask, scripts. The same names as `millpond.Client`, blocking.

    from millpond import sync

    mill = sync.Client("nats://millpond-nats:4222", namespace="default")    # a global, connected when first used

    def view(request):
        task = mill.submit("census", "census.parse", [request.GET["path"]])
        return JsonResponse(task.result(timeout=30))

Owns nothing but the way into the event loop on the process's background thread (`bridge`); every call is one of the
asynchronous client. It may be used from many threads at once, and by a forked child, which connects by itself. It must
not be called in an event loop's thread: that is refused with a sentence.
"""

from millpond.sync.client import Client
from millpond.sync.handles import DeadLetters, TaskHandle, as_completed, gather

__all__ = ["Client", "DeadLetters", "TaskHandle", "as_completed", "gather"]

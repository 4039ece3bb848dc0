"""The supervisor of a worker's child processes, as others see it: its defaults, and how its end is told.

The pool sets the numbers, the worker obeys them, the operator reads the end from the pod's status. Owns what the three
have to agree on.
"""

INTENSITY = 10
PERIOD = 30
"""More crashes than so many within so many seconds end the pod, unless its pool says otherwise.

OTP's 1 in 5 s is for code of one's own. These are crashes of users' handlers, and a pod that ends takes its other tasks
along (they are given back) and comes back after the kubelet's pause of 10 s and more. A new pod helps where the old one
is at fault (memory, disk, node): there every process crashes, and eleven crashes take a second. A task counts once
in the period, so that a batch with ten bad ones, tried as often as they like, costs no pod.
"""

EXIT_CODE = 88
"""Of a worker that its supervisor ended. Outside of what others use: Python (0, 1, 2, 120), sysexits.h (64-78),
container runtimes and shells (125-127), signals (128 and up)."""

REASON = "SupervisionExceeded"
"""The same as a reason: in the worker's last transition and in its status."""

TERMINATION_LOG = "/dev/termination-log"
"""Where a container leaves its last words, which the pod's status then has (Kubernetes' default path)."""

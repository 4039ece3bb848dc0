"""The kinds of `millpond.dev/v1alpha1`, one module each; `crdgen` turns them into schemas."""

from millpond_api.v1alpha1.poolgroup import PoolGroup, PoolGroupSpec, PoolGroupStatus
from millpond_api.v1alpha1.supervisor import Supervisor, SupervisorSpec, SupervisorStatus
from millpond_api.v1alpha1.task import Task, TaskSpec, TaskStatus
from millpond_api.v1alpha1.worker import Worker, WorkerSpec, WorkerStatus
from millpond_api.v1alpha1.workerpool import WorkerPool, WorkerPoolSpec, WorkerPoolStatus

__all__ = [
    "PoolGroup",
    "PoolGroupSpec",
    "PoolGroupStatus",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStatus",
    "Task",
    "TaskSpec",
    "TaskStatus",
    "Worker",
    "WorkerPool",
    "WorkerPoolSpec",
    "WorkerPoolStatus",
    "WorkerSpec",
    "WorkerStatus",
]

"""What runs before the chart is uninstalled: the operator stops, then every pool's workers drain and go.

`python -m millpond_operator.uninstall`, as the chart's pre-delete hook, while NATS is still there. It deletes the
workers' Deployments and waits for their pods; WorkerPool and Task objects, queues and dead letters stay, so that a new
installation goes on where this one ended. There are no finalizers, so nothing blocks without an operator.
"""

import asyncio
import sys

import structlog
from millpond_api import LABEL_POOL
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from millpond_operator.cluster.api import Api, ApiError, path
from millpond_operator.main import configure_logging

log = structlog.get_logger(__name__)


class UninstallSettings(BaseSettings):
    """Where the operator is and what it watched."""

    model_config = SettingsConfigDict(env_prefix="MILLPOND_", populate_by_name=True)

    pod_namespace: str = Field(default="default", validation_alias="POD_NAMESPACE")
    operator_deployment: str = "millpond-operator"
    watch_namespace: str = ""
    kubeconfig: str = ""
    uninstall_seconds: float = 300.0


async def uninstall(settings: UninstallSettings) -> int:
    """The number of worker pods left when the time was over."""
    async with await Api.connect(settings.kubeconfig) as api:
        await _stop_operator(api, settings)
        # Pods of the operator may live on for a moment; what they make again is deleted in the next round.
        for _ in range(int(settings.uninstall_seconds)):
            for deployment in await api.read_all("deployments", settings.watch_namespace, LABEL_POOL):
                meta = deployment["metadata"]
                if "deletionTimestamp" not in meta:
                    log.info("draining workers", namespace=meta["namespace"], deployment=meta["name"])
                    await api.delete("deployments", meta["namespace"], meta["name"])
            await _delete_budgets(api, settings)
            pods = await api.read_all("pods", settings.watch_namespace, LABEL_POOL)
            operators = await _operator_pods(api, settings)
            if not pods and not operators:
                return 0
            log.info("waiting for workers to finish", workers=len(pods), operators=operators)
            await asyncio.sleep(1)
        return len(pods)


async def _delete_budgets(api: Api, settings: UninstallSettings) -> None:
    """Nobody would take the busy labels back any more: what is left must not hold up a node's drain."""
    for budget in await api.read_all("poddisruptionbudgets", settings.watch_namespace, LABEL_POOL):
        await api.delete("poddisruptionbudgets", budget["metadata"]["namespace"], budget["metadata"]["name"])


async def _stop_operator(api: Api, settings: UninstallSettings) -> None:
    target = path("deployments", settings.pod_namespace, settings.operator_deployment, "scale")
    try:
        await api.merge(target, {"spec": {"replicas": 0}})
    except ApiError as error:
        if error.status != 404:
            raise


async def _operator_pods(api: Api, settings: UninstallSettings) -> int:
    deployment = await api.read("deployments", settings.pod_namespace, settings.operator_deployment)
    if deployment is None:
        return 0
    return int(deployment.get("status", {}).get("replicas", 0))


def main() -> None:
    """Exit code 0 when every worker pod is gone."""
    configure_logging("json")
    left = asyncio.run(uninstall(UninstallSettings()))
    if left:
        log.error("worker pods are still there: they finish within their grace period", workers=left)
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()

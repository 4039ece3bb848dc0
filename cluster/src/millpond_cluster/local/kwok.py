"""kwok, which plays the kubelets of nodes that do not exist: for tests of scale.

Pure: its command line and its stages (what happens to a fake pod, and when), put together from the files of its own
module. It must not write or start anything.
"""

from __future__ import annotations

from millpond_cluster.local.control_plane import Command, Facts, make_argv
from millpond_cluster.local.objects import KWOK_ANNOTATION

_STAGES = ("node/fast", "node/heartbeat", "pod/fast")
_OPTIONS = """\
apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  podPlayStageParallelism: 32
"""
"""A real kubelet works for its own pods alone; kwok's four at once, for all nodes, would be what a test waits for."""


def make_kwok(facts: Facts) -> Command:
    flags = {
        "kubeconfig": facts.kubeconfig("kwok"),
        "config": facts.config("kwok.yaml"),
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": f"{KWOK_ANNOTATION}=fake",
        "server-address": f"127.0.0.1:{facts.state.ports.kwok}",
    }
    return Command("kwok", make_argv(facts, "kwok", flags))


def make_kwok_config(facts: Facts) -> str:
    """Only the "fast" stages: a pod is Ready at once, and gone as soon as it is deleted."""
    stages = facts.programs["stages"]
    files = [
        file
        for folder in _STAGES
        for file in sorted((stages / folder).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
    return "\n---\n".join([_OPTIONS.strip(), *(file.read_text(encoding="utf-8").strip() for file in files)]) + "\n"

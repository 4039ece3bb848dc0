"""What the chart's pods may do: to the cluster (RBAC), to their node (security contexts) and over the network."""

from typing import Any

from scripts.helm import render
from tests.support.manifests import every_variant, named, of_kind, pod_specs, rules


@every_variant
def test_no_rule_holds_a_wildcard(values: dict[str, Any]) -> None:
    for rule in rules(render(values)):
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not [word for word in words if "*" in word], rule


@every_variant
def test_no_rule_reaches_secrets_or_raises_rights(values: dict[str, Any]) -> None:
    """With any of these, whoever takes the operator over has the cluster."""
    for rule in rules(render(values)):
        resources = {resource.partition("/")[0] for resource in rule["resources"]}
        assert not resources & {"secrets", "serviceaccounts", "roles", "clusterroles", "rolebindings"}
        assert "nodes" not in resources or set(rule["verbs"]) <= {"get", "list", "watch"}
        assert "pods/exec" not in rule["resources"]
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_one_namespace_mode_asks_for_nothing_cluster_wide() -> None:
    objects = render({"watchNamespace": "team-a"})
    assert [item for item in objects if item["kind"].startswith(("Cluster", "Validating"))] == []
    assert named(objects, "Role", "mill-operator")["metadata"]["namespace"] == "team-a"
    assert named(objects, "RoleBinding", "mill-operator")["subjects"][0]["namespace"] == "pond"
    reached = {resource for rule in rules(objects) for resource in rule["resources"]}
    assert not reached & {"namespaces", "customresourcedefinitions", "nodes"}


def test_arguments_that_no_schema_rule_can_see_are_kept_by_a_policy() -> None:
    """It looks at tasks alone: the operator's status writes go by unseen and cost nothing."""
    objects = render({})
    (rule,) = named(objects, "ValidatingAdmissionPolicy", "mill-task-arguments")["spec"]["matchConstraints"][
        "resourceRules"
    ]
    assert (rule["apiGroups"], rule["resources"], rule["operations"]) == (["millpond.dev"], ["tasks"], ["UPDATE"])
    binding = named(objects, "ValidatingAdmissionPolicyBinding", "mill-task-arguments")
    assert binding["spec"] == {"policyName": "mill-task-arguments", "validationActions": ["Deny"]}


def test_both_modes_grant_the_same_rights_on_pools() -> None:
    wide = named(render({}), "ClusterRole", "mill-operator")["rules"]
    narrow = named(render({"watchNamespace": "team-a"}), "Role", "mill-operator")["rules"]
    assert wide[: len(narrow)] == narrow
    *reads, budgets = wide[len(narrow) :]
    assert [rule["verbs"] for rule in reads] == [["get", "list", "watch"]] * 3
    assert (budgets["resources"], budgets["verbs"]) == (["poddisruptionbudgets"], ["create", "patch", "delete"])


def test_lease_is_the_only_one_it_may_change() -> None:
    objects = render({})
    lease = named(objects, "Role", "mill-operator-lease")
    assert lease["metadata"]["namespace"] == "pond"
    unnamed = [rule["verbs"] for rule in lease["rules"] if "resourceNames" not in rule]
    assert unnamed == [["create"]]
    environment = {
        entry["name"]: entry.get("value")
        for entry in next(pod_specs(of_kind(objects, "Deployment")))["containers"][0]["env"]
    }
    (only,) = [rule["resourceNames"] for rule in lease["rules"] if "resourceNames" in rule]
    assert only == [environment["MILLPOND_LEASE_NAME"]]


@every_variant
def test_every_binding_leads_to_a_role_and_an_account_of_this_release(values: dict[str, Any]) -> None:
    objects = render(values)
    roles = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects}
    accounts = {
        (item["metadata"]["namespace"], item["metadata"]["name"]) for item in of_kind(objects, "ServiceAccount")
    }
    given = values.get("serviceAccount", {}).get("name")
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        reference = binding["roleRef"]
        assert (reference["kind"], binding["metadata"].get("namespace"), reference["name"]) in roles
        (subject,) = binding["subjects"]
        assert (subject["namespace"], subject["name"]) in accounts or subject["name"] == given


@every_variant
def test_every_container_is_unprivileged_on_a_read_only_root(values: dict[str, Any]) -> None:
    for pod in pod_specs(render(values)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


@every_variant
def test_only_pods_that_talk_to_the_api_server_hold_a_token(values: dict[str, Any]) -> None:
    for item in of_kind(render(values), "Deployment", "StatefulSet", "Job"):
        holds = item["spec"]["template"]["spec"]["automountServiceAccountToken"]
        assert holds is (item["kind"] != "StatefulSet")


def test_broker_is_reachable_for_workers_clients_and_operator_alone() -> None:
    policy = named(render({}), "NetworkPolicy", "mill-nats")
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": "client"}]
    assert [sorted(peer) for peer in ingress["from"]] == [
        ["podSelector"],
        ["namespaceSelector", "podSelector"],
        ["namespaceSelector", "podSelector"],
        ["namespaceSelector"],
    ]
    assert all(selector for peer in ingress["from"] for name, selector in peer.items() if name == "podSelector")
    assert ingress["from"][3]["namespaceSelector"] == {"matchLabels": {"millpond.dev/nats-client": "true"}}


def test_workers_of_other_namespaces_stay_out_in_one_namespace_mode() -> None:
    policy = named(render({"watchNamespace": "team-a"}), "NetworkPolicy", "mill-nats")
    workers = policy["spec"]["ingress"][0]["from"][1]
    assert workers["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}
    assert workers["podSelector"] == {"matchExpressions": [{"key": "millpond.dev/pool", "operator": "Exists"}]}

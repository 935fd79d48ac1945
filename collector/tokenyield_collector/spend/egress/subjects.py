"""Who a client of a log is: a team and a workload, by egress.yaml and by saved pods. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from tokenyield_collector.spend.egress.rules import EgressRules, EgressSubject
from tokenyield_collector.spend.slices import FIELD_CHARS_MAX
from tokenyield_wire.bounded import fitting_name

PODS_MAX = 200_000
CONTAINERS_MAX = 100
VARIABLES_MAX = 10_000
"""Of a pod's containers, of a container's variables; what is beyond is not read."""
_CLIENTS_REMEMBERED = 100_000
_ENDED = ("Succeeded", "Failed")


class Client(NamedTuple):
    """Empty where it is not known."""

    team: str = ""
    workload: str = ""
    is_gateway: bool = False


class PodKey(NamedTuple):
    """A pod that has a variable by the name of a vendor's key. Its value is never read."""

    client: Client
    variable: str
    vendor: str


class Subjects:
    """`add_pod` before the lines of its addresses are read."""

    def __init__(self, rules: EgressRules) -> None:
        self._rules = rules
        self._exact: dict[str, EgressSubject | None] = {}
        self._networks: dict[tuple[int, int], dict[int, EgressSubject | None]] = {}
        """(version, length of the prefix) -> network -> who it is; None: a gateway."""
        self._patterns: list[tuple[str, EgressSubject | None]] = []
        for name in rules.file.gateways:
            self._add(name, None)
        for name, subject in rules.file.subjects.items():
            self._add(name, subject)
        self._pods: dict[str, Client] = {}
        self._known: dict[str, Client] = {}

    def client(self, address: str) -> Client:
        """Of an address or the name of a host."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _CLIENTS_REMEMBERED:
                self._known.clear()
            known = self._known[address] = self._client(address)
        return known

    def add_pod(self, pod: Mapping[str, Any]) -> Iterator[PodKey]:
        """A pod as the API server shows it: its addresses, and the variables by the names of keys."""
        metadata, spec, status = (_object(pod.get(name)) for name in ("metadata", "spec", "status"))
        workload = fitting_name(f"{_text(metadata, 'namespace')}/{_owner(metadata)}", FIELD_CHARS_MAX)
        labels = _object(metadata.get("labels"))
        team = next((value for name in self._rules.file.team_labels if (value := _text(labels, name))), "")
        subject = self._by_name(workload)
        if subject is None:
            client = Client(team, workload, is_gateway=True)
        else:
            client = Client(subject.team or team, subject.workload or workload)
        if status.get("phase") in _ENDED:
            return
        if not spec.get("hostNetwork"):
            addresses = [_text(status, "podIP"), *(_text(_object(one), "ip") for one in _list(status.get("podIPs")))]
            for address in filter(None, addresses):
                if len(self._pods) < PODS_MAX:
                    self._pods[_plain(address)] = client
            self._known.clear()
        containers = [*_list(spec.get("initContainers")), *_list(spec.get("containers"))]
        for variable in sorted({name for one in containers[:CONTAINERS_MAX] for name in _names(_object(one))}):
            if vendor := self._rules.keys.get(variable):
                yield PodKey(client, variable, vendor)

    def _add(self, name: str, subject: EgressSubject | None) -> None:
        try:
            network = ip_network(name, strict=False)
        except ValueError:
            if "*" in name:
                self._patterns.append((name.casefold(), subject))
            else:
                self._exact.setdefault(name.casefold(), subject)
            return
        of_length = self._networks.setdefault((network.version, network.prefixlen), {})
        of_length.setdefault(int(network.network_address), subject)  # gateways come first, and stay

    def _client(self, address: str) -> Client:
        plain = _plain(address)
        pod = self._pods.get(plain, Client())
        try:
            number = ip_address(plain)
        except ValueError:
            subject = self._by_name(plain)
        else:
            subject = self._by_address(number.version, number.max_prefixlen, int(number))
        if subject is None:
            return pod._replace(is_gateway=True)
        return Client(subject.team or pod.team, subject.workload or pod.workload, pod.is_gateway)

    def _by_address(self, version: int, bits: int, number: int) -> EgressSubject | None:
        """The smallest network that has it."""
        for own_version, length in sorted(self._networks, reverse=True):
            if own_version == version:
                network = number >> (bits - length) << (bits - length)
                of_length = self._networks[own_version, length]
                if network in of_length:
                    return of_length[network]
        return _NOBODY

    def _by_name(self, name: str) -> EgressSubject | None:
        plain = name.casefold()
        if plain in self._exact:
            return self._exact[plain]
        return next((subject for pattern, subject in self._patterns if fnmatchcase(plain, pattern)), _NOBODY)


_NOBODY = EgressSubject()


def _plain(address: str) -> str:
    """One spelling of an address; IPv4 in IPv6 as IPv4."""
    try:
        number = ip_address(address)
    except ValueError:
        return address
    mapped = number.ipv4_mapped if number.version == 6 else None
    return str(mapped or number)


def _owner(metadata: Mapping[str, Any]) -> str:
    """The Deployment of a pod, or what else keeps its name when the pod gets another."""
    for reference in map(_object, _list(metadata.get("ownerReferences"))):
        name, template = _text(reference, "name"), _text(_object(metadata.get("labels")), "pod-template-hash")
        if reference.get("controller") and name and reference.get("kind") != "Node":
            return name.removesuffix(f"-{template}") if template else name
    return _text(metadata, "name")


def _names(container: Mapping[str, Any]) -> Iterable[str]:
    """Names of variables, and of keys of secrets that variables are taken from."""
    for variable in map(_object, _list(container.get("env"))[:VARIABLES_MAX]):
        yield _text(variable, "name")
        yield _text(_object(_object(variable.get("valueFrom")).get("secretKeyRef")), "key")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return fitting_name(value, FIELD_CHARS_MAX) if isinstance(value, str) else ""

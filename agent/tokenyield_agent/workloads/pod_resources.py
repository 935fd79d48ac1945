"""The kubelet's pod-resources service: which GPUs it gave to which container (gRPC over a Unix socket).

In: the socket. Out: one entry for each container that was given GPUs. The messages are those of
k8s.io/kubelet/pkg/apis/podresources/v1 (api.proto); they are declared here, field by field, because the four that
matter are all that is read. Needs the extra `kubernetes` (h2, protobuf), which is imported only here: grpcio would cost
12 MB of the agent's 45, h2 costs one. The call is one unary request of github.com/grpc/grpc/doc/PROTOCOL-HTTP2.md.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

LIST = "/v1.PodResourcesLister/List"
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")
"""nvidia.com/gpu, its shared form nvidia.com/gpu.shared, and nvidia.com/mig-1g.10gb and its like."""
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuAllocation:
    """The GPUs that the kubelet gave to one container."""

    namespace: str
    pod: str
    container: str
    device_ids: tuple[str, ...]


class KubeletError(Exception):
    """The kubelet did not answer, or refused; the message says how to fix it."""


def list_gpus(path: str, timeout_s: float) -> list[GpuAllocation]:
    """Every container that was given GPUs, as the kubelet listening at `path` reports. Raises `KubeletError`."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(timeout_s)
            stream.connect(path)
            return list(read_allocations(_call(stream, LIST)))
    except (OSError, h2.exceptions.ProtocolError, DecodeError) as error:
        raise KubeletError(f"{path}: {error}; check that the socket is mounted and may be opened") from error


def _call(stream: socket.socket, method: str) -> bytes:
    """The answer to a call of `method` with an empty message."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    connection.send_headers(1, list(headers.items()))
    connection.send_data(1, struct.pack(">?I", False, 0), end_stream=True)
    stream.sendall(connection.data_to_send())
    body = b""
    status: dict[Any, Any] = {}
    while data := stream.recv(1 << 16):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                body += event.data or b""
                connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
                if len(body) > MESSAGE_BYTES_MAX:
                    raise OSError(f"answers more than {MESSAGE_BYTES_MAX >> 20} MiB")
            elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                status |= dict(event.headers or ())
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                return _message(body, status)
        stream.sendall(connection.data_to_send())
    raise OSError("closes the connection without an answer")


def _message(body: bytes, status: dict[Any, Any]) -> bytes:
    if status.get("grpc-status") != "0":
        raise OSError(f"gRPC status {status.get('grpc-status')}: {status.get('grpc-message', 'no message')}")
    compressed, length = struct.unpack(">?I", body[:5]) if len(body) >= 5 else (True, 0)
    if compressed or len(body) != 5 + length:
        raise OSError("expected a single plain gRPC message, found something else")
    return body[5:]


def read_allocations(body: bytes) -> Iterator[GpuAllocation]:
    """The GPUs in a serialized ListPodResourcesResponse. Raises google.protobuf.message.DecodeError."""
    for pod in _RESPONSE.FromString(body).pod_resources:
        for container in pod.containers:
            ids = [
                device_id
                for devices in container.devices
                if devices.resource_name.startswith(GPU_RESOURCES)
                for device_id in devices.device_ids
            ]
            if ids:
                yield GpuAllocation(
                    namespace=pod.namespace, pod=pod.name, container=container.name, device_ids=tuple(ids)
                )


def _declare() -> Any:
    """The message classes, from (message, [(field, number, message type or None for a string)])."""
    text, message = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    many, one = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED, descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    file = descriptor_pb2.FileDescriptorProto(name="tokenyield/podresources.proto", package="v1", syntax="proto3")
    for name, fields in (
        ("ContainerDevices", (("resource_name", 1, None, one), ("device_ids", 2, None, many))),
        ("ContainerResources", (("name", 1, None, one), ("devices", 2, "ContainerDevices", many))),
        (
            "PodResources",
            (("name", 1, None, one), ("namespace", 2, None, one), ("containers", 3, "ContainerResources", many)),
        ),
        ("ListPodResourcesResponse", (("pod_resources", 1, "PodResources", many),)),
    ):
        declared = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            declared.field.add(
                name=field,
                number=number,
                label=label,
                type=text if kind is None else message,
                type_name=None if kind is None else f".v1.{kind}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("v1.ListPodResourcesResponse"))


_RESPONSE = _declare()

"""A kubelet's pod-resources service: a real gRPC server, with messages compiled from the kubelet's own proto."""

import tempfile
import time
from concurrent import futures
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

PROTO = Path(__file__).parent / "agent" / "workloads" / "podresources.proto"


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    with tempfile.NamedTemporaryFile() as target:
        assert protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={target.name}", PROTO.name]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(target.name).read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool


def gpus_given(pods: int = 1) -> bytes:
    """The answer where each of so many pods has two GPUs and a MIG instance in one of its containers."""
    answer: Any = message_factory.GetMessageClass(_pool().FindMessageTypeByName("v1.ListPodResourcesResponse"))()
    for i in range(pods):
        pod = answer.pod_resources.add(name=f"chat-{i}", namespace="prod")
        pod.containers.add(name="sidecar")
        server = pod.containers.add(name="server", cpu_ids=[1, 2])
        server.devices.add(resource_name="nvidia.com/gpu", device_ids=["GPU-0", "GPU-1::3"]).topology.nodes.add(ID=1)
        server.devices.add(resource_name="nvidia.com/mig-1g.10gb", device_ids=["MIG-7"])
        server.devices.add(resource_name="rdma/hca", device_ids=["mlx5_0"])
    return bytes(answer.SerializeToString())


class Kubelet:
    """It listens at `socket`, answers so after `delay_s`, and refuses without an answer."""

    def __init__(self, socket: Path, answer: bytes | None, delay_s: float = 0) -> None:
        self.socket = socket
        self._server = grpc.server(futures.ThreadPoolExecutor(2))

        def reply(request: bytes, context: grpc.ServicerContext) -> bytes:
            time.sleep(delay_s)
            if answer is None:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
            return answer or b""

        handler = grpc.unary_unary_rpc_method_handler(reply, request_deserializer=bytes, response_serializer=bytes)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler}),)
        )
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

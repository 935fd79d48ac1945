package main

import (
	"fmt"
	"os"
	"strings"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	plugin "k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/plugin/v1beta1"
)

// runDevicePlugin offers GPUs to the kubelet as nvidia.com/gpu, with the kubelet's own implementation of a plugin. What it
// gives to a container is what NVIDIA's plugin does: the variable by which NVIDIA's runtime chooses the GPUs.
func runDevicePlugin(uuids []string) error {
	var devices []*pluginapi.Device
	for _, uuid := range uuids {
		devices = append(devices, &pluginapi.Device{ID: uuid, Health: pluginapi.Healthy})
	}
	socket := pluginapi.DevicePluginPath + "tokenyield-test.sock"
	served := plugin.NewDevicePluginStub(devices, socket, "nvidia.com/gpu", false, false)
	served.SetAllocFunc(func(request *pluginapi.AllocateRequest, _ map[string]*pluginapi.Device) (*pluginapi.AllocateResponse, error) {
		answer := &pluginapi.AllocateResponse{}
		for _, container := range request.ContainerRequests {
			answer.ContainerResponses = append(answer.ContainerResponses, &pluginapi.ContainerAllocateResponse{
				Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
			})
		}
		return answer, nil
	})
	if err := served.Start(); err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	if err := served.Register(pluginapi.KubeletSocket, "nvidia.com/gpu", pluginapi.DevicePluginPath); err != nil {
		return fmt.Errorf("%s: %w", pluginapi.KubeletSocket, err)
	}
	fmt.Fprintln(os.Stderr, "registered")
	served.Watch(pluginapi.KubeletSocket, "nvidia.com/gpu", pluginapi.DevicePluginPath)
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	cloudprovider "k8s.io/cloud-provider"
	cliflag "k8s.io/component-base/cli/flag"
	nodeutil "k8s.io/component-helpers/node/util"
	criutil "k8s.io/cri-client/pkg/util"
	"k8s.io/klog/v2"
	kubeletconfigv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubeletscheme "k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	kubeletlogs "k8s.io/kubernetes/pkg/kubelet/logs"
	netutils "k8s.io/utils/net"
)

// beyond judges what upstream looks at later, while it builds the node, with upstream's own functions. Each check
// says nothing about the machine, only about the configuration.
func beyond(ctx context.Context, arguments []string, document json.RawMessage) error {
	flags := options.NewKubeletFlags()
	if document == nil {
		return errors.New("upstream never said which configuration is in effect")
	}
	if err := readFlags(flags, arguments); err != nil {
		return err
	}
	config, err := internal(document)
	if err != nil {
		return fmt.Errorf("read the configuration in effect: %w", err)
	}
	return errors.Join(ofFlags(flags), ofDocument(ctx, config))
}

func readFlags(into *options.KubeletFlags, arguments []string) error {
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	set.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	set.ParseErrorsAllowlist.UnknownFlags = true
	into.AddFlags(set)
	ignored, err := options.NewKubeletConfiguration()
	if err != nil {
		return err
	}
	options.AddKubeletConfigFlags(set, ignored)
	options.AddGlobalFlags(set)
	set.BoolP("help", "h", false, "")
	return set.Parse(arguments)
}

func internal(document json.RawMessage) (*kubeletconfig.KubeletConfiguration, error) {
	scheme, _, err := kubeletscheme.NewSchemeAndCodecs()
	if err != nil {
		return nil, err
	}
	versioned := &kubeletconfigv1beta1.KubeletConfiguration{}
	if err := json.Unmarshal(document, versioned); err != nil {
		return nil, err
	}
	config := &kubeletconfig.KubeletConfiguration{}
	return config, scheme.Convert(versioned, config, nil)
}

func ofFlags(flags *options.KubeletFlags) error {
	var found []error
	if name := flags.CloudProvider; name != "" && !cloudprovider.IsExternal(name) {
		found = append(found, fmt.Errorf("--cloud-provider: %w", cloudprovider.ErrorForDisabledProvider(name)))
	}
	if _, _, err := nodeutil.ParseNodeIPArgument(flags.NodeIP, flags.CloudProvider); err != nil {
		found = append(found, fmt.Errorf("bad --node-ip %q: %w", flags.NodeIP, err))
	}
	if flags.RootDirectory == "" {
		found = append(found, errors.New("--root-dir: upstream cannot make a folder without a name"))
	}
	if flags.ImageCredentialProviderConfigPath != "" || flags.ImageCredentialProviderBinDir != "" {
		// In a process of its own: providers are registered once in the life of a process.
		own := exec.Command(os.Args[0], "credentials",
			flags.ImageCredentialProviderConfigPath, flags.ImageCredentialProviderBinDir)
		if said, err := own.CombinedOutput(); err != nil {
			found = append(found, fmt.Errorf("credential providers: %s", said))
		}
	}
	return errors.Join(found...)
}

func ofDocument(ctx context.Context, config *kubeletconfig.KubeletConfiguration) error {
	logger := klog.FromContext(ctx)
	var found []error
	add := func(field string, err error) {
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", field, err))
		}
	}
	_, err := eviction.ParseThresholdConfig(config.EnforceNodeAllocatable, config.EvictionHard, config.EvictionSoft,
		config.EvictionSoftGracePeriod, config.EvictionMinimumReclaim)
	add("evictionHard, evictionSoft, evictionSoftGracePeriod, evictionMinimumReclaim", err)
	_, err = cm.ParseQOSReserved(config.QOSReserved)
	add("qosReserved", err)
	add("systemReserved", reserved(config.SystemReserved))
	add("kubeReserved", reserved(config.KubeReserved))
	_, err = topologymanager.NewPolicyOptions(logger, config.TopologyManagerPolicyOptions)
	add("topologyManagerPolicyOptions", err)
	switch config.CPUManagerPolicy {
	case string(cpumanager.PolicyNone):
		_, err = cpumanager.NewNonePolicy(config.CPUManagerPolicyOptions)
		add("cpuManagerPolicyOptions", err)
	case string(cpumanager.PolicyStatic):
		_, err = cpumanager.NewStaticPolicyOptions(config.CPUManagerPolicyOptions)
		add("cpuManagerPolicyOptions", err)
	default:
		add("cpuManagerPolicy", fmt.Errorf("unknown policy: %q", config.CPUManagerPolicy))
	}
	switch config.MemoryManagerPolicy {
	case "None", "Static":
	default:
		add("memoryManagerPolicy", fmt.Errorf("unknown policy: %q", config.MemoryManagerPolicy))
	}
	switch config.ConfigMapAndSecretChangeDetectionStrategy {
	case kubeletconfig.GetChangeDetectionStrategy, kubeletconfig.TTLCacheChangeDetectionStrategy,
		kubeletconfig.WatchChangeDetectionStrategy:
	default:
		add("configMapAndSecretChangeDetectionStrategy", errors.New("unknown mode"))
	}
	_, err = kubeletlogs.NewContainerLogManager(nil, nil, config.ContainerLogMaxSize, int(config.ContainerLogMaxFiles),
		int(config.ContainerLogMaxWorkers), config.ContainerLogMonitorInterval)
	add("containerLogMaxSize", err)
	if config.Authorization.Mode == kubeletconfig.KubeletAuthorizationModeAlwaysAllow {
		_, err = app.BuildAuthz(nil, config.Authorization)
		add("authorization.mode", err)
	} else if config.Authorization.Mode != kubeletconfig.KubeletAuthorizationModeWebhook {
		add("authorization.mode", fmt.Errorf("unknown authorization mode %s", config.Authorization.Mode))
	}
	_, _, err = criutil.GetAddressAndDialer(config.ContainerRuntimeEndpoint)
	add("containerRuntimeEndpoint", err)
	if config.ImageServiceEndpoint != "" {
		_, _, err = criutil.GetAddressAndDialer(config.ImageServiceEndpoint)
		add("imageServiceEndpoint", err)
	}
	if netutils.ParseIPSloppy(config.Address) == nil {
		add("address", errors.New("nothing listens on what is no address"))
	}
	return errors.Join(found...)
}

// reserved follows the rules for amounts held back; upstream's function for them is not exported.
func reserved(amounts map[string]string) error {
	for name, text := range amounts {
		switch name {
		case "cpu", "memory", "ephemeral-storage", "pid":
		default:
			return fmt.Errorf("cannot reserve %q", name)
		}
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if quantity.Sign() < 0 {
			return fmt.Errorf("%s: negative", name)
		}
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// connection is what a kubeconfig comes to, without its secrets: under the names of the fields it comes from.
type connection struct {
	Server      string              `json:"server"`
	Proxy       string              `json:"proxy-url,omitempty"`
	Insecure    bool                `json:"insecure-skip-tls-verify,omitempty"`
	ServerName  string              `json:"tls-server-name,omitempty"`
	Authority   string              `json:"certificate-authority,omitempty"`
	Certificate string              `json:"client-certificate,omitempty"`
	Key         string              `json:"client-key,omitempty"`
	Shows       string              `json:"authorization,omitempty"`
	Plugin      *program            `json:"exec,omitempty"`
	As          string              `json:"as,omitempty"`
	AsUID       string              `json:"as-uid,omitempty"`
	AsGroups    []string            `json:"as-groups,omitempty"`
	AsExtra     map[string][]string `json:"as-user-extra,omitempty"`
}

type program struct {
	APIVersion  string   `json:"apiVersion"`
	Command     string   `json:"command"`
	Args        []string `json:"args,omitempty"`
	Env         []string `json:"env,omitempty"`
	ClusterInfo bool     `json:"provideClusterInfo,omitempty"`
}

const inline = "inline"

// judgeKubeconfig loads a file as the kubelet does, up to the client it would make of it.
func judgeKubeconfig(path string) (json.RawMessage, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("invalid kubeconfig: %w", err)
	}
	if _, err := kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	facts, err := factsOf(config)
	if err != nil {
		return nil, err
	}
	return json.Marshal(facts)
}

func factsOf(config *rest.Config) (*connection, error) {
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	facts := &connection{
		Server:     strings.TrimSuffix(server.String(), "/"),
		Insecure:   config.Insecure,
		ServerName: config.ServerName,
		Authority:  config.CAFile,
		As:         config.Impersonate.UserName,
		AsUID:      config.Impersonate.UID,
		AsGroups:   config.Impersonate.Groups,
		AsExtra:    config.Impersonate.Extra,
	}
	if len(config.CAData) > 0 {
		facts.Authority = inline
	}
	if config.Proxy != nil {
		proxy, err := config.Proxy(&http.Request{URL: server})
		if err != nil {
			return nil, err
		}
		shown := *proxy
		shown.User = nil
		facts.Proxy = shown.String()
	}
	hasCertificate := facts.showCertificate(config)
	switch {
	case config.BearerTokenFile != "":
		facts.Shows = "token file " + config.BearerTokenFile
	case config.BearerToken != "":
		facts.Shows = "token"
	case config.Username != "":
		facts.Shows = "password of " + config.Username
	case config.ExecProvider != nil && !hasCertificate:
		facts.Shows = "exec plugin"
		facts.Plugin = &program{
			APIVersion:  config.ExecProvider.APIVersion,
			Command:     config.ExecProvider.Command,
			Args:        config.ExecProvider.Args,
			ClusterInfo: config.ExecProvider.ProvideClusterInfo,
		}
		for _, variable := range config.ExecProvider.Env {
			facts.Plugin.Env = append(facts.Plugin.Env, variable.Name)
		}
	}
	return facts, nil
}

// showCertificate notes where the certificate comes from. It is read again only if both parts are files.
func (c *connection) showCertificate(config *rest.Config) bool {
	hasCertificate := len(config.CertData) > 0 || config.CertFile != ""
	hasKey := len(config.KeyData) > 0 || config.KeyFile != ""
	switch {
	case !hasCertificate || !hasKey:
		return false
	case len(config.CertData) > 0 || len(config.KeyData) > 0:
		c.Certificate = inline
	default:
		c.Certificate, c.Key = config.CertFile, config.KeyFile
	}
	return true
}

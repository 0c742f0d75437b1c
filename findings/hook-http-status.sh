#!/usr/bin/env bash
# A lifecycle hook with httpGet succeeds whatever status the server answers.
#
# Versions:  k8s.io/kubernetes v1.37.2 (pkg/kubelet/lifecycle, pkg/probe/http).
# Expected:  httpGet means in a hook what it means in a probe, whose fields it shares: 200 to 399 is a success. A
#            postStart hook that is answered 404 or 500 fails, an event tells it and the container is killed.
# Instead:   the answer's status is never looked at. Only a request that gets no answer fails.
# Seen:      the probe says failure for 404 and 500, the hook has no error at the same address.
# Why care:  a hook with a misspelt path, or whose work failed in the server (drain, registration), looks fine for ever:
#            no event, no line in the log. A kubelet that judges hooks like probes kills containers that run elsewhere.
#            Told in kubernetes/kubernetes#56963.
source "$(dirname "$0")/common.bash"

module k8s.io/kubernetes@v1.37.2
staging v0.37.2

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
)

// Answers with the status that its path names.
func answer(w http.ResponseWriter, r *http.Request) {
	status, _ := strconv.Atoi(path.Base(r.URL.Path))
	w.WriteHeader(status)
}

func main() {
	server := httptest.NewServer(http.HandlerFunc(answer))
	at, _ := url.Parse(server.URL)
	pod := &v1.Pod{}
	container := &v1.Container{Name: "c"}
	hooks := lifecycle.NewHandlerRunner(http.DefaultClient, nil, nil, nil)

	ask := func(about, path string) {
		get := &v1.HTTPGetAction{Host: at.Hostname(), Port: intstr.Parse(at.Port()), Path: path, Scheme: v1.URISchemeHTTP}
		request, err := httpprobe.NewRequestForHTTPGetAction(get, container, "", "probe")
		if err != nil {
			panic(err)
		}
		probed, _, _ := httpprobe.New(false).Probe(request, 10*time.Second)
		handler := &v1.LifecycleHandler{HTTPGet: get}
		_, err = hooks.Run(context.Background(), kubecontainer.ContainerID{}, pod, container, handler)
		fmt.Printf("%s: probe %s, hook failed: %t\n", about, probed, err != nil)
	}
	ask("200", "/200")
	ask("404", "/404")
	ask("500", "/500")
	server.Close()
	ask("no answer", "/200")
}
GO

cat >stated <<'TEXT'
200: probe success, hook failed: false
404: probe failure, hook failed: false
500: probe failure, hook failed: false
no answer: probe failure, hook failed: true
TEXT

check

// Program manifest-judge says what upstream's kubelet makes of the manifests of static pods.
//
//	manifest-judge file NODE PATH...    what the source of pods that reads files makes of each of them
//	manifest-judge url NODE PATH...     the same for the source that fetches them, from http://manifests.test/PATH
//	manifest-judge made-up SEED         a pod, as JSON, in which everything is set
//	manifest-judge types                the types of which a pod consists inside of upstream
//
// Each answer to a manifest is a line of JSON: the pods, or an error. With a pod comes the text whose hash is its uid,
// so that a difference can be found.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/util/hash"
	"k8s.io/utils/dump"
)

// often is how often a source looks again: never while this program runs.
const often = time.Hour

// utc is the file that machines in UTC have as /etc/localtime.
const utc = "VFppZjIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAAAQAAAAAAABVVEMAVFppZjIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAAAQAAAAAAABVVEMAClVUQzAK"

type answer struct {
	Path string `json:"path"`
	// URL is where the manifest was fetched.
	URL   string    `json:"url,omitempty"`
	Error string    `json:"error,omitempty"`
	Pods  []*v1.Pod `json:"pods,omitempty"`
	// Printed is what the uid of a single pod is the hash of, up to its origin, and Hash that hash.
	Printed string `json:"printed,omitempty"`
	Hash    string `json:"hash,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manifest-judge:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	// A time's text has the time zone in it: that of a machine in UTC, wherever this one is.
	data, err := base64.StdEncoding.DecodeString(utc)
	if err != nil {
		return fmt.Errorf("decode the time zone: %w", err)
	}
	if time.Local, err = time.LoadLocationFromTZData("Local", data); err != nil {
		return fmt.Errorf("load the time zone: %w", err)
	}
	if len(arguments) == 1 && arguments[0] == "types" {
		return writeTypes(os.Stdout)
	}
	if len(arguments) == 2 && arguments[0] == "made-up" {
		return writeMadeUp(os.Stdout, arguments[1])
	}
	if len(arguments) < 2 || (arguments[0] != "file" && arguments[0] != "url") {
		return errors.New("expected: types, or: made-up, a seed, or: file or url, a node's name, paths")
	}
	output := json.NewEncoder(os.Stdout)
	for _, path := range arguments[2:] {
		said, err := judge(arguments[0], types.NodeName(arguments[1]), path)
		if err != nil {
			return fmt.Errorf("judge %s: %w", path, err)
		}
		if err := output.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

func judge(source string, node types.NodeName, path string) (answer, error) {
	said := answer{Path: path}
	data, err := os.ReadFile(path)
	if err != nil {
		return said, err
	}
	said.Printed, said.Hash = printed(data)
	failed := make(chan string, 1)
	logger := logr.New(listener{failed})
	ctx, stop := context.WithCancel(klog.NewContext(context.Background(), logger))
	defer stop()
	pods := config.NewPodConfig(nil, nobody{})
	if source == "file" {
		config.NewSourceFile(logger, path, node, often, pods.Channel(ctx, source))
	} else {
		said.URL = "http://manifests.test/" + path
		// What the source asks with.
		http.DefaultTransport = server(data)
		config.NewSourceURL(logger, said.URL, http.Header{}, node, often, pods.Channel(ctx, "http"))
	}
	select {
	case update := <-pods.Updates():
		said.Pods = update.Pods
	case said.Error = <-failed:
	}
	return said, nil
}

// server answers every request with the same.
type server []byte

func (s server) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(s)), Request: request}, nil
}

// printed reads a manifest as the sources do, up to where the uid is made.
func printed(data []byte) (text, sum string) {
	document, err := utilyaml.ToJSON(data)
	if err != nil {
		return "", ""
	}
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), document)
	if err != nil {
		return "", ""
	}
	pod, is := object.(*api.Pod)
	if !is {
		return "", ""
	}
	hasher := fnv.New128a()
	hash.DeepHashObject(hasher, pod)
	return dump.ForHash(pod), hex.EncodeToString(hasher.Sum(nil))
}

// listener is a log that keeps the first complaint of a source.
type listener struct {
	failed chan<- string
}

func (l listener) Init(logr.RuntimeInfo)          {}
func (l listener) Enabled(int) bool               { return true }
func (l listener) WithValues(...any) logr.LogSink { return l }
func (l listener) WithName(string) logr.LogSink   { return l }
func (l listener) Error(err error, _ string, _ ...any) {
	l.complain(err)
}

// Info has errors too: the source that fetches calls them information.
func (l listener) Info(_ int, _ string, pairs ...any) {
	for index := 0; index+1 < len(pairs); index += 2 {
		if err, is := pairs[index+1].(error); is && pairs[index] == "err" {
			l.complain(err)
		}
	}
}

func (l listener) complain(err error) {
	select {
	case l.failed <- err.Error():
	default:
	}
}

// nobody is told when pods are first seen.
type nobody struct{}

func (nobody) ObservedPodOnWatch(klog.Logger, *v1.Pod, time.Time) {}

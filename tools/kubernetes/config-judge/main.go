// Program config-judge says what upstream's kubelet makes of a command line and the files it names.
//
// It runs upstream's own command, from the first flag to the point where the node would start, for any number of
// cases in one process. Each line of standard input is a case, each line of standard output its verdict:
//
//	{"name":"...","arguments":["--port=1"]}
//	{"name":"...","accepted":false,"error":"...","lenient":false,"warnings":["--port"],"configuration":{...}}
//
// A case with "kubeconfig" instead of arguments is about that file, and its configuration is whom and what it names.
//
// With the argument "describe" it prints the flags, fields and feature gates that upstream has. With "credentials" and
// the values of two flags it says what upstream makes of a configuration of credential providers.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-logr/logr"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/pkg/credentialprovider/plugin"
	"sigs.k8s.io/yaml"
)

type testCase struct {
	Name      string   `json:"name"`
	Arguments []string `json:"arguments"`
	// Kubeconfig is a path.
	Kubeconfig string `json:"kubeconfig"`
}

type verdict struct {
	Name     string `json:"name"`
	Accepted bool   `json:"accepted"`
	Error    string `json:"error,omitempty"`
	Lenient  bool   `json:"lenient,omitempty"`
	// Warnings has the flags, feature gates and fields that were warned about.
	Warnings      []string        `json:"warnings,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

// longestLine bounds a case: files are named, not contained.
const longestLine = 1 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "config-judge:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 2 && os.Args[1] == "describe" {
		return json.NewEncoder(os.Stdout).Encode(describe())
	}
	if len(os.Args) == 4 && os.Args[1] == "credentials" {
		return plugin.RegisterCredentialProviderPlugins(os.Args[2], os.Args[3], nil, nil)
	}
	pristine := utilfeature.DefaultMutableFeatureGate.DeepCopy()
	// The command does this once, last of all before the node starts. The second time panics: that is
	// where each accepted case ends.
	genericapiserver.SetupSignalContext()
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, longestLine)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var one testCase
		if err := json.Unmarshal(input.Bytes(), &one); err != nil {
			return fmt.Errorf("read a case: %w", err)
		}
		if err := reset(pristine); err != nil {
			return fmt.Errorf("forget the case before %s: %w", one.Name, err)
		}
		if err := output.Encode(judge(one)); err != nil {
			return fmt.Errorf("write a verdict: %w", err)
		}
	}
	return input.Err()
}

// reset undoes what a case leaves behind in the process: its feature gates and its logging.
func reset(pristine featuregate.MutableVersionedFeatureGate) error {
	gates := pristine.DeepCopy()
	utilfeature.DefaultMutableFeatureGate = gates
	utilfeature.DefaultFeatureGate = gates
	return logsapi.ResetForTest(gates)
}

func judge(one testCase) verdict {
	said := verdict{Name: one.Name}
	if one.Kubeconfig != "" {
		facts, err := judgeKubeconfig(one.Kubeconfig)
		if err != nil {
			said.Error = err.Error()
			return said
		}
		said.Accepted, said.Configuration = true, facts
		return said
	}
	logger := logr.New(&listener{verdict: &said})
	// Upstream takes whichever of the two is there at the time.
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
	klog.EnableContextualLogging(true)
	ctx := klog.NewContext(context.Background(), logger)
	complaints, err := complaining(func() error { return start(ctx, one.Arguments) })
	said.Warnings = append(said.Warnings, deprecated(complaints)...)
	if err != nil {
		said.Error = err.Error()
		return said
	}
	if err := beyond(ctx, one.Arguments, said.Configuration); err != nil {
		said.Error = err.Error()
		return said
	}
	said.Accepted = true
	return said
}

// complaining runs something that may write to standard error, and returns what it wrote.
func complaining(run func() error) (string, error) {
	file, err := os.CreateTemp("", "config-judge")
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	if err := os.Remove(file.Name()); err != nil {
		return "", err
	}
	own := os.Stderr
	os.Stderr = file
	failed := run()
	os.Stderr = own
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	return string(text), failed
}

// deprecated finds the flags that upstream's flag library complains about.
func deprecated(complaints string) []string {
	var flags []string
	for _, line := range strings.Split(complaints, "\n") {
		rest, is := strings.CutPrefix(line, "Flag --")
		name, _, isDeprecated := strings.Cut(rest, " has been deprecated")
		if is && isDeprecated {
			flags = append(flags, "--"+name)
		}
	}
	return flags
}

// start runs the command up to the point where the node would start.
func start(ctx context.Context, arguments []string) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			if !strings.Contains(fmt.Sprint(reason), "close of closed channel") {
				err = fmt.Errorf("panic: %v", reason)
			}
		}
	}()
	command := app.NewKubeletCommand(ctx)
	command.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	command.SilenceErrors = true
	command.SetOut(io.Discard)
	command.SetErr(io.Discard)
	command.SetArgs(arguments)
	return command.ExecuteContext(ctx)
}

// listener is a log that keeps a few messages: the configuration in effect, that it was read leniently, and warnings.
type listener struct {
	verdict *verdict
}

func (l *listener) Init(logr.RuntimeInfo)          {}
func (l *listener) Enabled(int) bool               { return true }
func (l *listener) Error(error, string, ...any)    {}
func (l *listener) WithValues(...any) logr.LogSink { return l }
func (l *listener) WithName(string) logr.LogSink   { return l }
func (l *listener) Info(_ int, text string, pairs ...any) {
	switch {
	case strings.HasPrefix(text, "Using lenient decoding"):
		l.verdict.Lenient = true
	case strings.HasPrefix(text, "Warning: setting ") && strings.Contains(text, "feature gate"):
		for index := 0; index+1 < len(pairs); index += 2 {
			if pairs[index] == "featureGate" {
				l.verdict.Warnings = append(l.verdict.Warnings, fmt.Sprintf("featureGates[%v]", pairs[index+1]))
			}
		}
	case strings.HasPrefix(text, "unsupported configuration:KubeletCgroups"):
		l.verdict.Warnings = append(l.verdict.Warnings, "kubeletCgroups")
	case text == "Effective KubeletConfiguration" && len(pairs) == 2:
		document, _ := pairs[1].(string)
		if converted, err := yaml.YAMLToJSON([]byte(document)); err == nil {
			l.verdict.Configuration = converted
		}
	}
}

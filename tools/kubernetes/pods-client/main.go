// Program pods-client asks a kubelet's Pods API as an agent on the node would, and prints each answer as a line of JSON.
//
//	pods-client SOCKET list
//	pods-client SOCKET get UID
//	pods-client SOCKET watch
//	pods-client sample FOLDER
//
// A line of a list or of a single answer is a pod. A line of a watch holds the type of the event and its pod, if any.
// A sample is what a test in crates/plugins goes by: tests/data/pod.json and pod.pb are made by
//
//	go run ./pods-client sample ../../crates/plugins/tests/data
//
// What the kubelet refuses is printed with the name of the code and the message, and is no failure of this program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	pods "k8s.io/kubelet/pkg/apis/pods/v1alpha1"
)

func main() {
	if err := run(context.Background(), os.Args[1:], json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "pods-client:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out *json.Encoder) error {
	if len(args) < 2 {
		return errors.New("usage: pods-client SOCKET list|get UID|watch, or pods-client sample FOLDER")
	}
	if args[0] == "sample" {
		return sample(args[1])
	}
	connection, err := grpc.NewClient("unix:"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pods.NewPodsClient(connection)
	switch {
	case args[1] == "list":
		err = list(ctx, client, out)
	case args[1] == "get" && len(args) == 3:
		err = get(ctx, client, args[2], out)
	case args[1] == "watch":
		err = watch(ctx, client, out)
	default:
		return fmt.Errorf("unknown command %q", args[1:])
	}
	if refusal, ok := status.FromError(err); err != nil && ok {
		return out.Encode(map[string]string{"code": refusal.Code().String(), "message": refusal.Message()})
	}
	return err
}

func list(ctx context.Context, client pods.PodsClient, out *json.Encoder) error {
	answer, err := client.ListPods(ctx, &pods.ListPodsRequest{})
	if err != nil {
		return err
	}
	for _, bytes := range answer.GetPods() {
		pod, err := decode(bytes)
		if err != nil {
			return err
		}
		if err := out.Encode(pod); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, client pods.PodsClient, uid string, out *json.Encoder) error {
	answer, err := client.GetPod(ctx, &pods.GetPodRequest{PodUID: uid})
	if err != nil {
		return err
	}
	pod, err := decode(answer.GetPod())
	if err != nil {
		return err
	}
	return out.Encode(pod)
}

func watch(ctx context.Context, client pods.PodsClient, out *json.Encoder) error {
	events, err := client.WatchPods(ctx, &pods.WatchPodsRequest{})
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := map[string]any{"type": event.GetType().String()}
		if len(event.GetPod()) > 0 {
			if line["pod"], err = decode(event.GetPod()); err != nil {
				return err
			}
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
}

func decode(bytes []byte) (*v1.Pod, error) {
	pod := &v1.Pod{}
	if err := pod.Unmarshal(bytes); err != nil {
		return nil, fmt.Errorf("a pod that is none: %w", err)
	}
	return pod, nil
}

package main

import (
	"reflect"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	kubeletconfigv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
)

type description struct {
	Flags  []flag  `json:"flags"`
	Fields []field `json:"fields"`
	Gates  []gate  `json:"gates"`
}

type flag struct {
	Name       string `json:"name"`
	Shorthand  string `json:"shorthand"`
	Type       string `json:"type"`
	Default    string `json:"default"`
	NoValue    string `json:"noValue"`
	Deprecated bool   `json:"deprecated"`
	Hidden     bool   `json:"hidden"`
}

type field struct {
	// Path has the names from the top, with [] behind those of lists.
	Path string `json:"path"`
	// Type is Go's, without pointers.
	Type string `json:"type"`
}

type gate struct {
	Name      string   `json:"name"`
	Stage     string   `json:"stage"`
	Default   bool     `json:"default"`
	Locked    bool     `json:"locked"`
	DependsOn []string `json:"dependsOn"`
}

func describe() description {
	all := description{}
	flagSet().VisitAll(func(f *pflag.Flag) {
		all.Flags = append(all.Flags, flag{
			Name: f.Name, Shorthand: f.Shorthand, Type: f.Value.Type(), Default: f.DefValue,
			NoValue: f.NoOptDefVal, Deprecated: f.Deprecated != "", Hidden: f.Hidden,
		})
	})
	fields(reflect.TypeOf(kubeletconfigv1beta1.KubeletConfiguration{}), "", &all.Fields)
	dependencies := utilfeature.DefaultMutableFeatureGate.Dependencies()
	for name, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		one := gate{
			Name: string(name), Stage: string(spec.PreRelease), Default: spec.Default, Locked: spec.LockToDefault,
			DependsOn: []string{},
		}
		for _, other := range dependencies[name] {
			one.DependsOn = append(one.DependsOn, string(other))
		}
		sort.Strings(one.DependsOn)
		all.Gates = append(all.Gates, one)
	}
	sort.Slice(all.Gates, func(a, b int) bool { return all.Gates[a].Name < all.Gates[b].Name })

	return all
}

// fields lists all fields below a struct, through pointers, lists and embedded structs.
func fields(of reflect.Type, at string, into *[]field) {
	for index := range of.NumField() {
		member := of.Field(index)
		name, _, _ := strings.Cut(member.Tag.Get("json"), ",")
		below, suffix := member.Type, ""
		for below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		kind := below.String()
		if below.Kind() == reflect.Slice {
			below, suffix = below.Elem(), "[]"
		}
		if name == "" {
			if member.Anonymous && below.Name() != "TypeMeta" {
				fields(below, at, into)
			}
			continue
		}
		path := strings.TrimPrefix(at+"."+name, ".")
		*into = append(*into, field{Path: path, Type: kind})
		if below.Kind() == reflect.Struct && !isScalar(below.Name()) {
			fields(below, path+suffix, into)
		}
	}
}

// isScalar tells structs that are written as one word from those that are maps.
func isScalar(name string) bool {
	switch name {
	case "Duration", "Quantity", "Time", "TimeOrMetaDuration", "QuantityValue":
		return true
	}
	return false
}

// flagSet collects the flags as the command does.
func flagSet() *pflag.FlagSet {
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	set.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	options.NewKubeletFlags().AddFlags(set)
	config, err := options.NewKubeletConfiguration()
	if err != nil {
		panic(err)
	}
	options.AddKubeletConfigFlags(set, config)
	options.AddGlobalFlags(set)
	set.BoolP("help", "h", false, "")
	return set
}

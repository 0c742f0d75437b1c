package main

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	api "k8s.io/kubernetes/pkg/apis/core"
)

// opaque types are printed by rules of their own.
var opaque = []reflect.Type{
	reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[intstr.IntOrString](),
	reflect.TypeFor[metav1.FieldsV1](),
}

// writeTypes lists the types that a pod consists of, a line each, by name. A name stands for
//
//	core.Protocol string                      another type
//	core.PodIP IP=ip:string                   a structure with its fields, in their order
//
// A field has its name, what it is called in a manifest, unless that is the name in lower camel case, and its type. One
// that is called nothing has its own fields in the place where it is.
func writeTypes(out io.Writer) error {
	walker := walker{lines: make(map[string]string)}
	if err := walker.walk(reflect.TypeFor[api.Pod](), reflect.TypeFor[v1.Pod]()); err != nil {
		return err
	}
	names := make([]string, 0, len(walker.lines))
	for name := range walker.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := fmt.Fprintln(out, name, walker.lines[name]); err != nil {
			return err
		}
	}
	return nil
}

// walker goes through the types that upstream works with and, for what they are called in a manifest, beside them
// through those that are decoded.
type walker struct {
	lines map[string]string
}

func (w *walker) walk(inner, outer reflect.Type) error {
	if inner.Kind() != outer.Kind() {
		return fmt.Errorf("%v is decoded from %v", inner, outer)
	}
	name := inner.String()
	if _, done := w.lines[name]; done || slices.Contains(opaque, inner) {
		return nil
	}
	isNamed := inner.Name() != "" && inner.PkgPath() != ""
	switch inner.Kind() {
	case reflect.Struct:
		return w.structure(name, inner, outer)
	case reflect.Map:
		if isNamed {
			w.lines[name] = fmt.Sprintf("map[%v]%v", inner.Key(), inner.Elem())
		}
		if err := w.walk(inner.Key(), outer.Key()); err != nil {
			return err
		}
		return w.walk(inner.Elem(), outer.Elem())
	case reflect.Slice, reflect.Pointer:
		if isNamed {
			return fmt.Errorf("%v has a name", inner)
		}
		return w.walk(inner.Elem(), outer.Elem())
	case reflect.Bool, reflect.String, reflect.Int32, reflect.Int64, reflect.Uint8:
		if isNamed {
			w.lines[name] = inner.Kind().String()
		}
		return nil
	default:
		return fmt.Errorf("%v is of a kind that is not expected", inner)
	}
}

func (w *walker) structure(name string, inner, outer reflect.Type) error {
	if inner.Size() == 0 {
		// Two pointers to such values may be the same, which is printed differently.
		return fmt.Errorf("%v is empty", inner)
	}
	// Before its fields, for a type may contain itself.
	w.lines[name] = ""
	fields := make([]string, 0, inner.NumField())
	known := make(map[string]bool)
	for index := range inner.NumField() {
		field := inner.Field(index)
		other, is := outer.FieldByName(field.Name)
		if !is {
			return fmt.Errorf("%v: %s is not decoded", inner, field.Name)
		}
		known[field.Name] = true
		text := field.Name
		called, _, _ := strings.Cut(other.Tag.Get("json"), ",")
		if called != lowerCamel(field.Name) {
			text += "=" + called
		}
		fields = append(fields, text+":"+field.Type.String())
		if err := w.walk(field.Type, other.Type); err != nil {
			return err
		}
	}
	for index := range outer.NumField() {
		if field := outer.Field(index).Name; !known[field] {
			return fmt.Errorf("%v: %s is lost", outer, field)
		}
	}
	w.lines[name] = strings.Join(fields, " ")
	return nil
}

func lowerCamel(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(first)) + name[size:]
}

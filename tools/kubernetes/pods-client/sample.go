package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// sample writes a pod that has everything a pod can have, as JSON and in protobuf: what a test of the crate plugins holds
// its own writing against.
func sample(folder string) error {
	pod := &v1.Pod{}
	(&sampler{}).fill(reflect.ValueOf(pod).Elem())
	text, err := json.MarshalIndent(pod, "", " ")
	if err != nil {
		return err
	}
	bytes, err := pod.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "pod.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "pod.pb"), bytes, 0o644)
}

// sampler gives every field it meets a value of its own.
type sampler struct{ n int64 }

func (s *sampler) fill(v reflect.Value) {
	s.n++
	n := s.n
	switch v.Addr().Interface().(type) {
	case *metav1.Time:
		v.Set(reflect.ValueOf(metav1.NewTime(time.Unix(1700000000+n, 0).UTC())))
		return
	case *resource.Quantity:
		v.Set(reflect.ValueOf(resource.MustParse(fmt.Sprintf("%dMi", n))))
		return
	case *intstr.IntOrString:
		if n%2 == 0 {
			v.Set(reflect.ValueOf(intstr.FromInt32(int32(n))))
		} else {
			v.Set(reflect.ValueOf(intstr.FromString(fmt.Sprintf("port-%d", n))))
		}
		return
	case *metav1.FieldsV1:
		v.Set(reflect.ValueOf(metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)}))
		return
	case *metav1.TypeMeta:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		s.fill(v.Elem())
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			s.fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		s.fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		s.fill(key)
		s.fill(value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprintf("s-%d", n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(n)
	case reflect.Uint8:
		v.SetUint(uint64(n % 256))
	default:
		panic(v.Type().String())
	}
}

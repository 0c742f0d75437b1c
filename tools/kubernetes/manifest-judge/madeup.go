package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// writeMadeUp writes a pod with a value in every field, or, with the seed 0, one in which everything is there and nothing
// is said, so that it gets every default. Neither makes sense, and no kubelet would run it.
func writeMadeUp(out io.Writer, seed string) error {
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return fmt.Errorf("read the seed: %w", err)
	}
	pod := v1.Pod{}
	filler{random: rand.New(rand.NewPCG(number, 0)), isEmpty: number == 0}.fill(reflect.ValueOf(&pod).Elem())
	if number == 0 {
		// They are never in a manifest, so that their defaults do not matter.
		pod.Spec.EphemeralContainers = nil
	}
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return json.NewEncoder(out).Encode(pod)
}

type filler struct {
	random *rand.Rand
	// isEmpty leaves all there is to say at its zero.
	isEmpty bool
}

func (f filler) fill(value reflect.Value) {
	if f.isEmpty && isPlain(value) {
		return
	}
	switch place := value.Addr().Interface().(type) {
	case *resource.Quantity:
		amounts := []string{"1", "250m", "64Mi", "1k", "3e6", "7"}
		*place = resource.MustParse(amounts[f.random.IntN(len(amounts))])
		return
	case *metav1.Time:
		*place = metav1.Unix(f.random.Int64N(1<<32), 0)
		return
	case *metav1.FieldsV1:
		place.Raw = []byte(fmt.Sprintf(`{"f:%s":{}}`, f.word()))
		return
	case *intstr.IntOrString:
		*place = intstr.FromString(f.word())
		if f.random.IntN(2) == 0 {
			*place = intstr.FromInt32(f.random.Int32())
		}
		return
	case *time.Time:
		panic("a time of its own")
	}
	switch value.Kind() {
	case reflect.Struct:
		for index := range value.NumField() {
			f.fill(value.Field(index))
		}
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		f.fill(value.Elem())
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1+f.random.IntN(2), 2))
		for index := range value.Len() {
			f.fill(value.Index(index))
		}
	case reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))
		// Both are the same one if nothing is said.
		for range 2 {
			key, item := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
			f.fill(key)
			f.fill(item)
			value.SetMapIndex(key, item)
		}
	case reflect.String:
		value.SetString(f.word())
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int32:
		value.SetInt(1 + int64(f.random.IntN(1<<30)))
	case reflect.Int64:
		value.SetInt(1 + f.random.Int64N(1<<40))
	default:
		panic(fmt.Sprintf("%v is not filled", value.Type()))
	}
}

// isPlain says whether a value has no parts that could be there or not.
func isPlain(value reflect.Value) bool {
	switch value.Addr().Interface().(type) {
	case *resource.Quantity, *metav1.Time, *intstr.IntOrString:
		return true
	}
	switch value.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64:
		return true
	default:
		return false
	}
}

func (f filler) word() string {
	return strconv.FormatUint(uint64(f.random.Uint32()), 36)
}

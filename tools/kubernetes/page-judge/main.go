// Program page-judge reads a page of metrics from standard input as Prometheus does, as text or, when it is told
// --protobuf, as protobuf.
//
// It prints a line for each family: its name, its type and how many metrics it has. What Prometheus' own parser refuses
// is an error with the number of the line. So is what that parser lets pass and a scrape does not: a metric that is there
// twice, a family without a type, a histogram whose buckets do not add up.
package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func main() {
	read := text
	if slices.Contains(os.Args[1:], "--protobuf") {
		read = protobuf
	}
	if err := run(os.Stdin, os.Stdout, read); err != nil {
		fmt.Fprintln(os.Stderr, "page-judge:", err)
		os.Exit(1)
	}
}

func text(page io.Reader) (map[string]*dto.MetricFamily, error) {
	// The names of before UTF-8 was allowed: what every version of Prometheus takes.
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(page)
}

func protobuf(page io.Reader) (map[string]*dto.MetricFamily, error) {
	decoder := expfmt.NewDecoder(page, expfmt.NewFormat(expfmt.TypeProtoDelim))
	families := make(map[string]*dto.MetricFamily)
	for {
		family := &dto.MetricFamily{}
		if err := decoder.Decode(family); errors.Is(err, io.EOF) {
			return families, nil
		} else if err != nil {
			return nil, err
		}
		if families[family.GetName()] != nil {
			return nil, fmt.Errorf("%s is there twice", family.GetName())
		}
		families[family.GetName()] = family
		// The last bucket may be left out, for its count is that of all.
		for _, metric := range family.GetMetric() {
			if histogram := metric.GetHistogram(); histogram != nil {
				count, bound := histogram.GetSampleCount(), math.Inf(1)
				histogram.Bucket = append(histogram.Bucket, &dto.Bucket{CumulativeCount: &count, UpperBound: &bound})
			}
		}
	}
}

func run(page io.Reader, out io.Writer, read func(io.Reader) (map[string]*dto.MetricFamily, error)) error {
	families, err := read(page)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var wrong []error
	for _, name := range names {
		family := families[name]
		if err := judge(family); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
		kind := strings.ToLower(family.GetType().String())
		if _, err := fmt.Fprintln(out, name, kind, len(family.GetMetric())); err != nil {
			return err
		}
	}
	return errors.Join(wrong...)
}

// judge looks for what the parser does not.
func judge(family *dto.MetricFamily) error {
	if family.GetType() == dto.MetricType_UNTYPED {
		return errors.New("it has no type")
	}
	seen := make(map[string]bool, len(family.GetMetric()))
	for _, metric := range family.GetMetric() {
		labels := labels(metric)
		if seen[labels] {
			return fmt.Errorf("{%s} is there twice", labels)
		}
		seen[labels] = true
		if counter := metric.GetCounter(); counter != nil && (counter.GetValue() < 0 || math.IsNaN(counter.GetValue())) {
			return fmt.Errorf("{%s}: a counter of %v", labels, counter.GetValue())
		}
		if histogram := metric.GetHistogram(); histogram != nil {
			if err := addsUp(histogram); err != nil {
				return fmt.Errorf("{%s}: %w", labels, err)
			}
		}
	}
	return nil
}

func labels(metric *dto.Metric) string {
	pairs := make([]string, 0, len(metric.GetLabel()))
	for _, label := range metric.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// addsUp says whether the buckets grow up to the number of all observations.
func addsUp(histogram *dto.Histogram) error {
	bound, count := math.Inf(-1), uint64(0)
	for _, bucket := range histogram.GetBucket() {
		if bucket.GetUpperBound() <= bound {
			return fmt.Errorf("the bucket %v follows %v", bucket.GetUpperBound(), bound)
		}
		if bucket.GetCumulativeCount() < count {
			return fmt.Errorf("the bucket %v has less than the one before it", bucket.GetUpperBound())
		}
		bound, count = bucket.GetUpperBound(), bucket.GetCumulativeCount()
	}
	if !math.IsInf(bound, 1) {
		return fmt.Errorf("the last bucket is %v", bound)
	}
	if count != histogram.GetSampleCount() {
		return fmt.Errorf("%d in the last bucket, %d counted", count, histogram.GetSampleCount())
	}
	return nil
}

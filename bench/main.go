// Command bench measures Keyturn beside its peers: the same load generator, in
// turn, in one run, on one machine, so that the ratios mean something where the
// absolute numbers do not.
//
// The peers are a limit server (net/http, JSON and the same cryptography, with
// nothing else: no signature check, no policy, no audit), an OpenBao binary
// when one is named, and any endpoint that speaks the AWS KMS API when one is
// named. Keyturn runs as it ships, with authentication, policy and audit on,
// in a process of its own, over loopback.
//
// Requests are made and signed before the clock starts and replayed by 16
// connections: an SDK client costs more than the server and would measure
// itself. The figure that counts is the server's CPU time for 1,000 requests,
// read from the operating system; the load generator is not in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
)

// options are the flags.
type options struct {
	json        bool
	ops         string
	connections int
	duration    time.Duration
	keyturn     string // binary; built when empty
	openbao     string // binary
	endpoint    string // URL of any AWS KMS endpoint
	what        string
	keys        int
}

func main() {
	var o options
	limit := flag.String("limit-server", "", "be the limit server on this address (used by the benchmark itself)")
	flag.BoolVar(&o.json, "json", false, "print one JSON object a line")
	flag.StringVar(&o.ops, "ops", "sign-p256,mac-256,encrypt-64,datakey-256,sign-rsa2048,sign-p256+rules,mac-256+rules,encrypt-64+rules,sign-p256+grants,encrypt-64+grants",
		"operations, in this order; +rules: by alias, under a key policy of 5 statements with 3 conditions and with 50 grants on the key; +grants: allowed by nothing but one of the 50")
	flag.IntVar(&o.connections, "connections", 16, "connections of the load generator")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "how long each operation is measured")
	flag.StringVar(&o.keyturn, "keyturn", "", "keyturn binary (default: build this tree's)")
	flag.StringVar(&o.openbao, "openbao", "", "OpenBao binary to measure as well")
	flag.StringVar(&o.endpoint, "endpoint", "", "URL of an AWS KMS endpoint to measure as well; credentials from the environment. Requests only: its CPU cannot be seen")
	flag.StringVar(&o.what, "what", "ops,size,turning,history,creates,pages",
		"what to measure: ops (CPU a request), size (memory and start), turning (latency while lineages turn), history (a turn of an old lineage), "+
			"creates (CreateKey beside bare commits), pages (the first and the last page of a list)")
	flag.IntVar(&o.keys, "keys", 100_000, "keys for -what size and pages")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *limit != "" {
		err = serveLimit(ctx, *limit)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one operation on one server. Times are in milliseconds, CPU in
// seconds a thousand requests; ratio is CPU against the limit server's.
type result struct {
	Op         string  `json:"op"`
	Server     string  `json:"server"`
	RPS        float64 `json:"rps"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	CPU        float64 `json:"cpu_s_per_1k"`
	LimitCPU   float64 `json:"limit_cpu_s_per_1k"`
	Ratio      float64 `json:"ratio"`
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error,omitzero"`
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "keyturn-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.keyturn == "" {
		if o.keyturn, err = build(ctx, dir); err != nil {
			return err
		}
	}
	for what := range strings.SplitSeq(o.what, ",") {
		switch what {
		case "ops":
			err = measureOps(ctx, o, dir)
		case "size":
			err = measureSize(ctx, o, dir)
		case "turning":
			err = measureTurning(ctx, o, dir)
		case "history":
			err = measureHistory(ctx, o, dir)
		case "creates":
			err = measureCreates(ctx, o, dir)
		case "pages":
			err = measurePages(ctx, o, dir)
		default:
			err = fmt.Errorf("-what %q: it is ops, size, turning, history, creates or pages", what)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measureOps runs each operation on each server in turn: limit, Keyturn, the
// others, and the next operation.
func measureOps(ctx context.Context, o options, dir string) error {
	servers, err := startAll(ctx, o, dir)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	var results []result
	for op := range strings.SplitSeq(o.ops, ",") {
		limitCPU := 0.0
		for _, s := range servers {
			load, err := s.load(ctx, op)
			if errors.Is(err, errNotOffered) {
				continue
			}
			if err != nil {
				return fmt.Errorf("preparing %s on %s: %w", op, s.name, err)
			}
			load.run(ctx, o.connections, time.Second) // warm
			r, err := load.measure(ctx, s, o)
			if err != nil {
				return err
			}
			r.Op = op
			if s.name == "limit" {
				limitCPU = r.CPU
			}
			r.LimitCPU = limitCPU
			if limitCPU > 0 {
				r.Ratio = r.CPU / limitCPU
			}
			results = append(results, r)
			if o.json {
				if err := printLine(r); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(os.Stderr, "%s on %s: %.0f/s\n", op, s.name, r.RPS)
			}
			if r.Errors > 0 {
				return fmt.Errorf("%s on %s: %d requests failed, the first with: %s", op, s.name, r.Errors, r.FirstError)
			}
		}
	}
	if !o.json {
		return printTable(results)
	}
	return nil
}

func printLine(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = os.Stdout.Write(append(b, '\n'))
	}
	return err
}

func printTable(results []result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "op\tserver\trequests/s\tp50 ms\tp99 ms\tCPU s/1k\tratio to limit\t")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.3f\t%.2f\t\n", r.Op, r.Server, r.RPS, r.P50, r.P99, r.CPU, r.Ratio)
	}
	return w.Flush()
}

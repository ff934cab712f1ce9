package jwks_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/jwks"
)

// life is one generation's: when it is published, used from and until, and shown until.
type life struct {
	number                             int
	published, used, retired, deadline time.Time
	compromised                        time.Time // zero: never
}

// at computes what a Source would say at the instant now, from the plan of all lives.
func (l life) at(t testing.TB, now time.Time) jwks.Generation {
	g := generation(t, l.number, jwks.Hidden)
	g.NotBefore = l.used
	switch {
	case !l.compromised.IsZero() && !now.Before(l.compromised):
		g.NotBefore = time.Time{}
	case now.Before(l.published):
		g.NotBefore = time.Time{} // nobody knows of it yet
	case now.Before(l.used):
		g.State = jwks.Next
	case now.Before(l.retired):
		g.State = jwks.Current
	default:
		g.State, g.Leaves = jwks.Previous, l.deadline
	}
	return g
}

var maxAgeForm = regexp.MustCompile(`max-age=([0-9]+)`)

// verifier keeps a set for exactly as long as it may, wherever in time it looks.
type verifier struct {
	house   *house
	ids     []string // of the set it holds
	expires time.Time
}

func (v *verifier) knows(t testing.TB, now time.Time, id string) bool {
	if !now.Before(v.expires) {
		v.house.now = now
		r := v.house.do(t, "GET", "/jwks/payments/eu")
		var set jose.JSONWebKeySet
		if r.StatusCode == http.StatusOK {
			if err := json.Unmarshal([]byte(body(t, r)), &set); err != nil {
				t.Fatal(err)
			}
		}
		v.ids, v.expires = nil, now
		if found := maxAgeForm.FindStringSubmatch(r.Header.Get("Cache-Control")); found != nil {
			seconds, err := strconv.Atoi(found[1])
			if err != nil {
				t.Fatal(err)
			}
			v.expires = now.Add(time.Duration(seconds) * time.Second)
		}
		for _, key := range set.Keys {
			v.ids = append(v.ids, key.KeyID)
		}
	}
	return slices.Contains(v.ids, id)
}

// Whatever the lead, the overlap and the interval: a verifier that looks at arbitrary times and caches for as long
// as it may has every key whenever a signature made with it may turn up, from the first use to the end
// of the overlap; and it never holds a key past its deadline, nor a compromised one for longer than an hour.
func TestACachingVerifierAlwaysHasTheKey(t *testing.T) {
	ids := map[int]string{}
	for n := 1; n <= 5; n++ {
		ids[n] = parse(t, edKey(t, n), "").ID
	}
	rapid.Check(t, func(rt *rapid.T) {
		seconds := func(low, high int, name string) time.Duration {
			return time.Duration(rapid.IntRange(low, high).Draw(rt, name)) * time.Second
		}
		lead := seconds(1, rapid.SampledFrom([]int{10, 600, 7 * 86400}).Draw(rt, "longest lead"), "lead")
		overlap := seconds(0, rapid.SampledFrom([]int{10, 600, 30 * 86400}).Draw(rt, "longest overlap"), "overlap")

		var lives []life
		used := noon
		for n := 1; n <= 5; n++ {
			next := used.Add(lead + seconds(1, rapid.SampledFrom([]int{10, 7200, 20 * 86400}).Draw(rt, "longest use"), "use"))
			lives = append(lives, life{number: n, published: used.Add(-lead), used: used, retired: next, deadline: next.Add(overlap)})
			used = next
		}
		if rapid.Bool().Draw(rt, "one is compromised") {
			l := &lives[rapid.IntRange(0, 3).Draw(rt, "which")]
			l.compromised = l.used.Add(seconds(0, 86400, "compromised after"))
		}
		h := newHouse()
		h.lineage.Lead, h.lineage.Overlap = lead, overlap

		// Looks at the interesting instants, and at arbitrary ones between them.
		var looks []time.Time
		for _, l := range lives {
			for _, instant := range []time.Time{l.published, l.used, l.retired, l.deadline} {
				looks = append(looks, instant.Add(-1), instant, instant.Add(time.Second))
			}
			looks = append(looks, l.published.Add(time.Duration(rapid.Float64Range(-0.2, 1.2).Draw(rt, "between")*float64(l.deadline.Sub(l.published)))))
		}
		for range rapid.IntRange(0, 40).Draw(rt, "looks") {
			looks = append(looks, noon.Add(time.Duration(rapid.Float64Range(0, 1).Draw(rt, "look")*float64(lives[4].deadline.Sub(noon)))))
		}
		slices.SortFunc(looks, time.Time.Compare)

		v := &verifier{house: h}
		for _, now := range looks {
			if now.Before(noon) || !now.Before(lives[4].retired) {
				continue
			}
			h.lineage.Generations = nil
			for _, l := range lives {
				h.lineage.Generations = append(h.lineage.Generations, l.at(t, now))
			}
			for _, l := range lives {
				has := v.knows(t, now, ids[l.number])
				needed := !now.Before(l.used) && (now.Before(l.retired) || now.Before(l.deadline))
				switch bad := !l.compromised.IsZero() && !now.Before(l.compromised); {
				case bad:
					if has && now.After(l.compromised.Add(time.Hour)) {
						rt.Fatalf("%v after it was compromised, v%d is still trusted", now.Sub(l.compromised), l.number)
					}
				case needed && !has:
					rt.Fatalf("v%d is in use %v after %v and the verifier lacks it: lead %v, overlap %v", l.number, now.Sub(l.used), l.used, lead, overlap)
				case has && now.Before(l.published):
					rt.Fatalf("v%d is known %v before it was published", l.number, l.published.Sub(now))
				case has && !now.Before(l.deadline):
					rt.Fatalf("v%d is trusted %v after its deadline", l.number, now.Sub(l.deadline))
				}
			}
		}
	})
}

// The bare swap, which publishes nothing beforehand, fails the verifier that the staged rotation
// satisfies as soon as that verifier caches on its own terms.
func TestABareSwapFailsAVerifierThatCaches(t *testing.T) {
	h := newHouse(generation(t, 1, jwks.Current))
	h.lineage.Lead = 0
	v := &verifier{house: h}
	if !v.knows(t, noon, parse(t, edKey(t, 1), "").ID) {
		t.Fatal("the verifier does not know the first key")
	}
	v.expires = noon.Add(time.Minute) // it keeps what it has for a minute, whatever it was told
	h.lineage.Generations = []jwks.Generation{generation(t, 1, jwks.Previous), generation(t, 2, jwks.Current)}
	if v.knows(t, noon.Add(time.Second), parse(t, edKey(t, 2), "").ID) {
		t.Error("the verifier knows the second key before it can")
	}
	if !v.knows(t, noon.Add(time.Minute), parse(t, edKey(t, 2), "").ID) {
		t.Error(fmt.Sprint("the verifier does not recover: ", v.ids))
	}
}

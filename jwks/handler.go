package jwks

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Config is what a Handler needs.
type Config struct {
	Source  Source
	Account string // of the short form of the address
	Region  string
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: slog.Default
}

// Handler serves
//
//	GET /jwks/<account>/<region>/<alias>
//	GET /jwks/<alias>                       in Config.Account and Config.Region
//
// with the alias written with or without "alias/" in front, and ?format=jwks (default), pem or ssh.
// HEAD, If-None-Match, and requests of pages from elsewhere (CORS) are answered. Errors are JSON:
// {"error": code, "message": text}.
type Handler struct {
	config Config
	keys   keyCache
}

// NewHandler returns a Handler for the path /jwks/ and below.
func NewHandler(c Config) *Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Handler{config: c}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("X-Content-Type-Options", "nosniff")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		header.Set("Allow", "GET, HEAD, OPTIONS")
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", "If-None-Match, Cache-Control")
		header.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		header.Set("Allow", "GET, HEAD, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "public keys can only be read: use GET")
		return
	}
	answer, err := h.answer(r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	header.Set("Access-Control-Expose-Headers", "ETag")
	header.Set("ETag", answer.etag)
	// must-revalidate: a cache that cannot reach us may not go on with an old set, which could
	// lack the key that signs by then.
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(answer.maxAge/time.Second))+", must-revalidate")
	if matches(r.Header.Values("If-None-Match"), answer.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", answer.contentType)
	header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	if r.Method != http.MethodHead {
		// The client may have gone: nothing to do about it.
		_, _ = w.Write(answer.body) //nolint:gosec // of the request it holds an alias of letters, digits, /, _ and - only, and nosniff is set
	}
}

type answer struct {
	contentType string
	body        []byte
	etag        string
	maxAge      time.Duration
}

func (h *Handler) answer(r *http.Request) (*answer, error) {
	account, region, alias, ok := h.address(r.URL.Path)
	if !ok {
		return nil, ErrNotFound
	}
	format, known := formats[r.URL.Query().Get("format")]
	if !known {
		return nil, errFormat
	}
	lineage, err := h.config.Source(r.Context(), account, region, alias)
	if err != nil {
		return nil, err
	}
	for i := range lineage.Generations {
		if g := &lineage.Generations[i]; g.State != Hidden {
			if err := h.keys.fill(r.Context(), lineage.Keys, g, h.config.Now()); err != nil {
				return nil, err
			}
		}
	}
	// The clock is read last, so that no key is shown past its deadline however slow the others were.
	now := h.config.Now()
	shown := lineage.shown(now)
	if len(shown) == 0 {
		return nil, ErrNotFound
	}
	body, err := format.write(shown, alias)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &answer{format.contentType, body, `"` + encode(sum[:16]) + `"`, lineage.maxAge(now)}, nil
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)
	aliasForm   = regexp.MustCompile(`^[a-zA-Z0-9/_-]{1,250}$`) // as KMS allows them
)

// address reads the path. An alias that looks like the long form is reached by
// writing it with "alias/" in front.
func (h *Handler) address(path string) (account, region, alias string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/jwks/")
	account, region = h.config.Account, h.config.Region
	if parts := strings.SplitN(rest, "/", 3); len(parts) == 3 && accountForm.MatchString(parts[0]) && regionForm.MatchString(parts[1]) {
		account, region, rest = parts[0], parts[1], parts[2]
	}
	name := strings.TrimPrefix(rest, "alias/")
	// The form keeps everything else, line breaks above all, out of the SSH comment.
	return account, region, "alias/" + name, ok && aliasForm.MatchString(name)
}

// matches implements If-None-Match for GET (RFC 9110 section 13.1.2).
func matches(values []string, etag string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			item = strings.TrimPrefix(strings.TrimSpace(item), "W/")
			if item == "*" || item == etag {
				return true
			}
		}
	}
	return false
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		refuse(w, http.StatusNotFound, "NotFound", "no lineage with public keys has this address: expected /jwks/<alias> or /jwks/<account>/<region>/<alias>")
	case errors.Is(err, errFormat):
		refuse(w, http.StatusBadRequest, "BadFormat", "format: expected jwks, pem or ssh")
	case errors.Is(err, errNoKeyHasForm):
		refuse(w, http.StatusNotAcceptable, "NotAcceptable", "the keys of this lineage do not exist in this format; every public key exists as ?format=pem")
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		// The client has gone. Nobody reads this.
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		h.config.Logger.ErrorContext(r.Context(), "public keys cannot be served", "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "Unavailable", "the public keys cannot be read at the moment")
	}
}

// refuse answers with an error that nobody may keep.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, err := json.Marshal(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{code, message})
	if err != nil {
		panic(err) // two strings
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

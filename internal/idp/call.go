package idp

import (
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Entry is one line of the provider's log. It holds no secret.
type Entry struct {
	Time    time.Time `json:"time"` // by the provider's clock
	Act     string    `json:"act"`  // such as refresh_token
	Outcome string    `json:"outcome"`
	User    string    `json:"user,omitempty"`

	// Of the request, where there was one.
	Method  string            `json:"method,omitempty"`
	Path    string            `json:"path,omitempty"`
	Status  int               `json:"status,omitempty"`
	Address string            `json:"address,omitempty"` // whom the provider takes for the person's
	Params  map[string]string `json:"params,omitempty"`  // those that can be no secret
}

// mostEntries bounds the log, and mostMessages what was sent.
const mostEntries, mostMessages = 1000, 200

// record is what happened, for tests to read.
type record struct {
	mu       sync.Mutex
	entries  []Entry
	messages []Message
}

func (r *record) add(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	if len(r.entries) > mostEntries {
		r.entries = slices.Clone(r.entries[len(r.entries)-mostEntries:])
	}
}

func (r *record) send(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
	if len(r.messages) > mostMessages {
		r.messages = slices.Clone(r.messages[len(r.messages)-mostMessages:])
	}
}

// clear forgets the entries, and the messages, too, if everything is to go.
func (r *record) clear(everything bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = nil
	if everything {
		r.messages = nil
	}
}

// Requests is the log: the newest thousand lines, the oldest first.
func (p *Provider) Requests() []Entry {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return slices.Clone(p.record.entries)
}

// Messages are the codes that were sent to a user, the oldest first. "" is everybody.
func (p *Provider) Messages(username string) []Message {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.record.messages), func(m Message) bool {
		return username != "" && !strings.EqualFold(m.User, username)
	})
}

// log adds a line that belongs to no request.
func (p *Provider) log(act, outcome, user string) {
	e := Entry{Time: p.now(), Act: act, Outcome: outcome, User: user}
	p.record.add(e)
	if p.Log != nil {
		p.Log(e)
	}
}

// call is one request with its answer.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	act     string
	address string
	form    url.Values // of the body; JSON bodies are read into it, too
	entries []Entry
	status  int
}

// log adds a line, which is written once the answer is made: only then its status is known.
func (c *call) log(act, outcome, user string) {
	c.entries = append(c.entries, Entry{Act: act, Outcome: outcome, User: user})
}

// watched remembers the status of an answer.
type watched struct {
	http.ResponseWriter
	status *int
}

func (w watched) WriteHeader(status int) {
	if *w.status == 0 {
		*w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// unseen are acts that ask nothing of anybody: they stand in Requests only.
var unseen = []string{"discovery", "keys", "style"}

// handle serves a pattern. act names what is asked; "" is found in the request.
func (p *Provider) handle(pattern, act string, do func(*call)) {
	p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c := &call{r: r, act: act, address: peer(r)}
		c.w = watched{w, &c.status}
		if err := c.read(); err != nil {
			refuse(w, http.StatusBadRequest, "invalid_request", "The body cannot be read.")
			return
		}
		if c.act == "" {
			c.act = actOf(c.form.Get("grant_type"))
		}
		if act == awsAct {
			c.act = awsActOf(c)
		}
		f, planned := p.faults.take(c.act)
		if planned && !f.play(c) {
			c.log(c.act, "fault", "")
		} else {
			do(c)
		}
		p.write(c)
		if planned && f.Drop {
			panic(http.ErrAbortHandler)
		}
	})
}

// write writes the call's lines.
func (p *Provider) write(c *call) {
	quiet := slices.Contains(unseen, c.act)
	if len(c.entries) == 0 {
		quiet = true
		c.log(c.act, strconv.Itoa(c.status), "")
	}
	for _, e := range c.entries {
		e.Time, e.Method, e.Path, e.Status, e.Address, e.Params = p.now(), c.r.Method, c.r.URL.Path, c.status, c.address, c.params()
		p.record.add(e)
		if p.Log != nil && !quiet {
			p.Log(e)
		}
	}
}

// read reads a form, or the members of a JSON object that are strings.
func (c *call) read() error {
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if kind != "application/json" && kind != awsType {
		err := c.r.ParseForm()
		c.form = c.r.PostForm
		return err
	}
	var object map[string]any
	if err := json.NewDecoder(c.r.Body).Decode(&object); err != nil {
		return err
	}
	c.form = url.Values{}
	for name, value := range object {
		switch value := value.(type) {
		case string:
			c.form.Set(name, value)
		case []any:
			for _, v := range value {
				if s, ok := v.(string); ok {
					c.form.Add(name, s)
				}
			}
		case map[string]any:
			for key, v := range value {
				if s, ok := v.(string); ok {
					c.form.Set(name+"."+key, s)
				}
			}
		}
	}
	if len(object) == 0 {
		return errors.New("no object")
	}
	return nil
}

// open are parameters whose values can be no secret.
var open = []string{
	"acr_values", "audience", "authenticator_id", "authenticator_types", "AuthFlow", "AuthParameters.USERNAME", "challenge_type", "challenge_types_supported",
	"ChallengeName", "channel_hint", "client_id", "ClientId", "code_challenge_method", "factor", "grant_type", "login_hint", "logout_uri", "max_age",
	"oob_channels", "post_logout_redirect_uri", "prompt", "realm", "redirect_uri", "resource", "response_type", "returnTo", "scope", "token_type_hint",
	"username",
}

func (c *call) params() map[string]string {
	all := map[string]string{}
	for _, from := range []url.Values{c.r.URL.Query(), c.form} {
		for _, name := range open {
			if from.Has(name) {
				all[name] = strings.Join(from[name], " ")
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// actOf names a grant.
func actOf(grantType string) string {
	short := strings.ReplaceAll(strings.TrimPrefix(grantType, grantURI), "-", "_")
	if short == "password_realm" {
		return "password"
	}
	return short
}

func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func seconds(d time.Duration) string {
	return strconv.Itoa(int(max(1, (d+time.Second-1)/time.Second)))
}

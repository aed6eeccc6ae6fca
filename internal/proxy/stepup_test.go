package proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
)

func TestStepUpIn(t *testing.T) {
	for _, tc := range []struct {
		status int
		lines  []string
		want   gate.StepUp
		is     bool
	}{
		{401, []string{`Bearer error="insufficient_user_authentication", error_description="x, y", acr_values="gold silver"`}, gate.StepUp{ACRValues: "gold silver"}, true},
		{401, []string{`bearer realm="a", ERROR=insufficient_user_authentication, max_age=300`}, gate.StepUp{MaxAge: 5 * time.Minute}, true},
		{401, []string{`Bearer error="insufficient_user_authentication", max_age="0"`}, gate.StepUp{Now: true}, true},
		{401, []string{`Bearer error="insufficient_user_authentication"`}, gate.StepUp{Now: true}, true},
		{401, []string{`Basic realm="x", Bearer error="insufficient_user_authentication", max_age="1"`}, gate.StepUp{MaxAge: time.Second}, true},
		{401, []string{`Basic realm="x"`, `DPoP algs="ES256", error="insufficient_user_authentication", acr_values="a"`}, gate.StepUp{ACRValues: "a"}, true},
		{403, []string{`Bearer error="insufficient_user_authentication"`}, gate.StepUp{}, false},
		{401, []string{`Bearer error="invalid_token"`}, gate.StepUp{}, false},
		{401, []string{`Bearer error_description="error=insufficient_user_authentication"`}, gate.StepUp{}, false},
		{401, []string{`Bearer error="insufficient_user_authentication`}, gate.StepUp{}, false},
		{401, []string{`Bearer error="insufficient_user_authentication", max_age="-1"`}, gate.StepUp{Now: true}, true},
		{401, []string{"Bearer error=\"insufficient_user_authentication\", acr_values=\"a\\\"b\u00e9\""}, gate.StepUp{Now: true}, true},
		{401, nil, gate.StepUp{}, false},
	} {
		got, is := stepUpIn(&http.Response{StatusCode: tc.status, Header: http.Header{"Www-Authenticate": tc.lines}})
		if got != tc.want || is != tc.is {
			t.Errorf("%q: %+v %v", tc.lines, got, is)
		}
	}
}

// FuzzChallenges: any header is read to its end, and a parameter never has a value that is not in the line.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer error="insufficient_user_authentication", max_age=1`, `Basic a==, Bearer b="c\"d"`, `,,,=`, `"`, `a = "b`, `x y z`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		list := challenges(line)
		if len(list) > maxChallenges {
			t.Errorf("%d challenges", len(list))
		}
		for _, c := range list {
			if c.scheme == "" {
				t.Errorf("a challenge without a scheme in %q", line)
			}
			for name, value := range c.params {
				if name == "" || len(name)+len(value) > len(line) {
					t.Errorf("%q: %q=%q", line, name, value)
				}
			}
		}
	})
}

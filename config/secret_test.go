package config

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	yaml "github.com/goccy/go-yaml"
)

const planted = "pl4nted-s3cret"

// TestSecretIsUnprintable puts a secret through everything that prints, alone and inside of other values.
func TestSecretIsUnprintable(t *testing.T) {
	s := NewSecret(planted)
	type hidden struct{ s Secret } // package fmt cannot call the methods of an unexported field
	c := embedded()
	c.Keys = []Secret{s}
	c.Admin.Token = s
	c.Frontends[0].Providers[0].ClientSecret = s
	var out bytes.Buffer
	for _, v := range []any{s, &s, []Secret{s}, map[string]Secret{"k": s}, hidden{s}, &hidden{s}, []hidden{{s}}, c, &c, c.Frontends, c.Frontends[0].Providers[0]} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10.3s"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		fmt.Fprintln(&out, fmt.Errorf("wrapped: %v", v), errors.Join(errors.New("a"), fmt.Errorf("%+v", v)))
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("message", "value", v, slog.Group("group", slog.Any("inner", v)))
		}
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal, xml.Marshal, gobMarshal} {
			text, err := marshal(v)
			out.Write(text)
			if err != nil {
				out.WriteString(err.Error())
			}
		}
	}
	for _, form := range []string{planted, fmt.Sprintf("%x", planted), fmt.Sprintf("%X", planted), fmt.Sprintf("%d", []byte(planted)), "cGw0bnRlZC1zM2NyZXQ"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret got out as %q", form)
		}
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("nothing was printed")
	}
	if s.Reveal() != planted || s.Empty() || !(Secret{}).Empty() || !NewSecret("").Empty() || (Secret{}).Reveal() != "" || (Secret{}).String() != "" {
		t.Error("the value itself is wrong")
	}
}

func gobMarshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

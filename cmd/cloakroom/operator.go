package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/spf13/cobra"
)

// operatorTime bounds one request to the admin listener: ending or counting a million sessions takes a while.
const operatorTime = 15 * time.Minute

// operatorFlags say where the operator's API is.
type operatorFlags struct{ config, admin, tokenFile string }

func (o *operatorFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.config, "config", "./cloakroom.yaml", "the server's configuration file: it says where the admin listener and its token are")
	cmd.Flags().StringVar(&o.admin, "admin", "", "the admin listener's URL, like http://127.0.0.1:9080, in place of --config; with --token-file")
	cmd.Flags().StringVar(&o.tokenFile, "token-file", "", "a file that holds the admin listener's token")
}

// operator speaks to the admin listener.
type operator struct {
	base  string
	token config.Secret
}

// open finds the admin listener and its token.
func (o *operatorFlags) open() (*operator, error) {
	if o.admin != "" {
		if o.tokenFile == "" {
			return nil, usageError{errors.New("--admin needs --token-file")}
		}
		u, err := url.Parse(o.admin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, usageError{errors.New("--admin: write http://HOST:PORT")}
		}
		token, err := readToken(o.tokenFile)
		return &operator{u.Scheme + "://" + u.Host, token}, err
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return nil, err
	}
	base, err := adminURL(cfg.Admin.Listen)
	if err != nil {
		return nil, err
	}
	token := cfg.Admin.Token
	if path := o.tokenFile; path != "" || token.Empty() {
		if path == "" {
			path = tokenPath(cfg, o.config)
		}
		if token, err = readToken(path); err != nil {
			return nil, err
		}
	}
	return &operator{base, token}, nil
}

// adminURL is where a listener is reached from this machine.
func adminURL(listen string) (string, error) {
	if listen == "" {
		return "", errors.New("the configuration has no admin listener (admin.listen)")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", fmt.Errorf("admin.listen %q names no fixed port; say where the listener is with --admin", listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// tokenPath is where `cloakroom serve` keeps a token that it made itself.
func tokenPath(cfg config.Config, file string) string {
	if path, ok := strings.CutPrefix(cfg.Store, "file:"); ok {
		return path + ".admin-token"
	}
	return file + ".admin-token"
}

func readToken(path string) (config.Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return config.Secret{}, fmt.Errorf("the admin listener's token: %w; a server that has none in its configuration makes the file when it starts", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, 4<<10))
	if err != nil {
		return config.Secret{}, fmt.Errorf("the admin listener's token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return config.Secret{}, fmt.Errorf("the admin listener's token: %s holds none", path)
	}
	return config.NewSecret(token), nil
}

// maxAnswer bounds an answer: a page of a thousand sessions has less than a tenth of it.
const maxAnswer = 32 << 20

// ask sends one request and reads the answer into v. A problem becomes an error. Redirects are not followed and no
// proxy is used: the token is for this listener alone.
func (o *operator) ask(ctx context.Context, method, path string, query url.Values, v any) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTime)
	defer cancel()
	target := o.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.token.Reveal())
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the query
		}
		return fmt.Errorf("the admin listener at %s does not answer: %w", o.base, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the admin listener at %s: %w", o.base, err)
	}
	if res.StatusCode == http.StatusOK && json.Unmarshal(body, v) == nil {
		return nil
	}
	var problem struct{ Code, Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		return fmt.Errorf("%s answers %d, and not as an admin listener does", o.base, res.StatusCode)
	}
	return fmt.Errorf("the admin listener at %s says %s: %s", o.base, plain(problem.Code), plain(problem.Detail))
}

// plain takes out what a terminal would obey: names and devices are what strangers said they are.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

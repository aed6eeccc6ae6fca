package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/spf13/cobra"
)

func sessionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sessions", Short: "List, show and end sessions, by the admin listener", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("which one? `cloakroom sessions list`, `show ID` or `end`")}
		},
	}
	cmd.AddCommand(sessionsListCommand(), sessionsShowCommand(), sessionsEndCommand())
	return cmd
}

// row is what the commands show of a session.
type row struct {
	ID         string                     `json:"id"`
	Frontend   string                     `json:"frontend"`
	Provider   string                     `json:"provider"`
	Subject    string                     `json:"subject"`
	SID        string                     `json:"sid"`
	Name       string                     `json:"name"`
	Method     string                     `json:"method"`
	CreatedAt  time.Time                  `json:"created_at"`
	LastActive time.Time                  `json:"last_active"`
	ExpiresAt  time.Time                  `json:"expires_at"`
	Device     string                     `json:"device"`
	Address    string                     `json:"address"`
	User       map[string]json.RawMessage `json:"user"`
}

// filterFlags say which sessions are meant.
type filterFlags struct {
	frontend, provider, subject, sid string
	older, idle                      string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.frontend, "frontend", "", "only of this frontend, by its URL")
	cmd.Flags().StringVar(&f.provider, "provider", "", "only by this provider, by its name (main, if it has none)")
	cmd.Flags().StringVar(&f.subject, "subject", "", "only of this person, by the provider's sub; with --provider")
	cmd.Flags().StringVar(&f.sid, "sid", "", "only of this session of the provider; with --provider")
	cmd.Flags().StringVar(&f.older, "older-than", "", "only those made longer ago than this, like 30d")
	cmd.Flags().StringVar(&f.idle, "idle-for", "", "only those not used for longer than this, like 7d")
}

// narrow reports whether it says more than frontend and provider.
func (f *filterFlags) narrow() bool {
	return f.subject != "" || f.sid != "" || f.older != "" || f.idle != ""
}

func (f *filterFlags) any() bool { return f.narrow() || f.frontend != "" || f.provider != "" }

// query is the filter as the API takes it. A flag that is given and empty is a mistake, not "any".
func (f *filterFlags) query(cmd *cobra.Command, now time.Time) (url.Values, error) {
	q := url.Values{}
	for _, p := range []struct{ flag, name, value string }{
		{"frontend", "frontend", f.frontend},
		{"provider", "provider", f.provider},
		{"subject", "subject", f.subject},
		{"sid", "sid", f.sid},
		{"older-than", "created_before", f.older},
		{"idle-for", "idle_since", f.idle},
	} {
		if !cmd.Flags().Changed(p.flag) {
			continue
		}
		if p.value == "" {
			return nil, usageError{fmt.Errorf("--%s is empty", p.flag)}
		}
		if p.flag == "older-than" || p.flag == "idle-for" {
			var d config.Duration
			if err := d.UnmarshalText([]byte(p.value)); err != nil || d <= 0 {
				return nil, usageError{fmt.Errorf("--%s: write a duration like 30d or 12h", p.flag)}
			}
			p.value = now.Add(-d.Std()).UTC().Format(time.RFC3339)
		}
		q.Set(p.name, p.value)
	}
	if (f.subject != "" || f.sid != "") && f.provider == "" {
		return nil, usageError{errors.New("--subject and --sid mean something only with --provider")}
	}
	return q, nil
}

func sessionsListCommand() *cobra.Command {
	var at operatorFlags
	var filter filterFlags
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List sessions, in no particular order", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := filter.query(cmd, time.Now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return usageError{errors.New("--limit: write a number, 0 for all")}
			}
			op, err := at.open()
			if err != nil {
				return err
			}
			out := newLister(cmd.OutOrStdout(), asJSON)
			more, err := op.each(cmd.Context(), q, limit, out.add)
			if err == nil {
				err = out.header()
			}
			if err := errors.Join(err, out.flush()); err != nil {
				return err
			}
			if more {
				fmt.Fprintf(cmd.ErrOrStderr(), "there are more; --limit 0 lists all of them\n")
			}
			return nil
		},
	}
	at.add(cmd)
	filter.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line, as the API has it")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many; 0 is all")
	return cmd
}

// each hands every session to show, page by page, up to a limit (0 = none). more: there are some left.
func (o *operator) each(ctx context.Context, q url.Values, limit int, show func(json.RawMessage) error) (more bool, err error) {
	for shown := 0; ; {
		size := 1000
		if limit > 0 {
			size = min(size, limit-shown)
		}
		q.Set("limit", strconv.Itoa(size))
		var page struct {
			Sessions []json.RawMessage
			Next     string
		}
		if err := o.ask(ctx, "GET", "/api/sessions", q, &page); err != nil {
			return false, err
		}
		for _, s := range page.Sessions {
			if err := show(s); err != nil {
				return false, err
			}
		}
		shown += len(page.Sessions)
		if page.Next == "" || limit > 0 && shown >= limit {
			return page.Next != "", nil
		}
		q.Set("after", page.Next)
	}
}

// lister writes sessions as a table, or as they came.
type lister struct {
	out   io.Writer
	table *tabwriter.Writer // nil = JSON
	begun bool
}

func newLister(out io.Writer, asJSON bool) *lister {
	l := &lister{out: out}
	if !asJSON {
		l.table = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	}
	return l
}

// header begins the table, once: with the first session, or when it is known that there is none.
func (l *lister) header() error {
	if l.table == nil || l.begun {
		return nil
	}
	l.begun = true
	_, err := fmt.Fprintln(l.table, "ID\tSUBJECT\tNAME\tPROVIDER\tFRONTEND\tCREATED\tLAST ACTIVE\tEXPIRES\tDEVICE\tADDRESS")
	return err
}

func (l *lister) add(raw json.RawMessage) error {
	if l.table == nil {
		_, err := fmt.Fprintf(l.out, "%s\n", raw)
		return err
	}
	var s row
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the admin listener's answer: %w", err)
	}
	if err := l.header(); err != nil {
		return err
	}
	for i, cell := range []string{s.ID, s.Subject, s.Name, s.Provider, s.Frontend, minute(s.CreatedAt), minute(s.LastActive), minute(s.ExpiresAt), s.Device, s.Address} {
		if i > 0 {
			fmt.Fprint(l.table, "\t")
		}
		fmt.Fprint(l.table, plain(cell))
	}
	_, err := fmt.Fprintln(l.table)
	return err
}

func (l *lister) flush() error {
	if l.table == nil {
		return nil
	}
	return l.table.Flush()
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

func sessionsShowCommand() *cobra.Command {
	var at operatorFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one session", Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			op, err := at.open()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := op.ask(cmd.Context(), "GET", "/api/sessions/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			if asJSON {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
				return err
			}
			return showOne(cmd.OutOrStdout(), raw)
		},
	}
	at.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as the API has it")
	return cmd
}

func showOne(out io.Writer, raw json.RawMessage) error {
	var s row
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the admin listener's answer: %w", err)
	}
	user, err := json.Marshal(s.User)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"id", s.ID},
		{"frontend", s.Frontend},
		{"provider", s.Provider},
		{"subject", s.Subject},
		{"sid", s.SID},
		{"name", s.Name},
		{"method", s.Method},
		{"created", s.CreatedAt.UTC().Format(time.RFC3339)},
		{"last active", s.LastActive.UTC().Format(time.RFC3339)},
		{"expires", s.ExpiresAt.UTC().Format(time.RFC3339)},
		{"device", s.Device},
		{"address", s.Address},
		{"user", string(user)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], plain(line[1]))
		}
	}
	return w.Flush()
}

// oneID takes exactly one argument.
func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageError{fmt.Errorf("%s takes one session's ID, as `cloakroom sessions list` shows it", cmd.CommandPath())}
	}
	return nil
}

func sessionsEndCommand() *cobra.Command {
	var at operatorFlags
	var filter filterFlags
	var all, asJSON bool
	cmd := &cobra.Command{
		Use: "end [ID]", Short: "End one session, those that a filter selects, or all",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, q, err := endChoice(cmd, args, filter, all)
			if err != nil {
				return err
			}
			op, err := at.open()
			if err != nil {
				return err
			}
			var answer struct {
				Ended int `json:"ended"`
			}
			if err := op.ask(cmd.Context(), "DELETE", path, q, &answer); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
			}
			noun := "sessions"
			if answer.Ended == 1 {
				noun = "session"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "ended %d %s\n", answer.Ended, noun)
			return err
		},
	}
	at.add(cmd)
	filter.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every session, or every one of --frontend and --provider")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as the API has it")
	return cmd
}

// endChoice is what is to be ended. Exactly one choice is made; none is never "all".
func endChoice(cmd *cobra.Command, args []string, filter filterFlags, all bool) (path string, q url.Values, err error) {
	if q, err = filter.query(cmd, time.Now()); err != nil {
		return "", nil, err
	}
	switch {
	case len(args) > 1 || len(args) == 1 && (args[0] == "" || filter.any() || all):
		return "", nil, usageError{errors.New("say one session's ID, or a filter, or --all; not several of them")}
	case len(args) == 1:
		return "/api/sessions/" + url.PathEscape(args[0]), nil, nil
	case all && filter.narrow():
		return "", nil, usageError{errors.New("--all goes with --frontend and --provider only")}
	case all:
		q.Set("all", "true")
	case !filter.narrow():
		return "", nil, usageError{errors.New("which ones? An ID; --provider with --subject or --sid; --older-than; --idle-for; or --all")}
	}
	return "/api/sessions", q, nil
}

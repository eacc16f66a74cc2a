package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

func duration(low, high time.Duration, at func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < low || d > high {
			return fmt.Errorf("it is a time from %v to %v, such as 5s", low, high)
		}
		*at(s) = d
		return nil
	}
}

func level(out *slog.Level, v string) error {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(l.String(), v) {
			*out = l
			return nil
		}
	}
	return errors.New("it is debug, info, warn or error")
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, errors.New("it is true or false")
	}
}

// hostPort takes host:port, and a URL of it too: CLOAKROOM_ADDR is also what client commands read.
func hostPort(v string) (string, error) {
	v = strings.TrimPrefix(strings.TrimPrefix(v, "http://"), "https://")
	v = strings.TrimSuffix(v, "/")
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", errors.New("it is host:port, such as " + DefaultAddr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", errors.New("its port is a number from 0 to 65535")
	}
	return v, nil
}

// KeyName reports whether name may be the NAME of a key file NAME.key: 1 to 64 of A-Z a-z 0-9 _ - and, not first, dots.
func KeyName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

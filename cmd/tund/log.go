package main

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger writes to out, one line per event: for people, or as JSON. For systemd's journal each
// line has its priority, and those for people leave the time to it. The level can be changed later.
func newLogger(format, level string, out io.Writer, journal bool) (*zap.Logger, zap.AtomicLevel, error) {
	parsed, err := zapcore.ParseLevel(level)
	if level == "" || err != nil || parsed < zapcore.DebugLevel || parsed > zapcore.ErrorLevel {
		return nil, zap.AtomicLevel{}, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	at := zap.NewAtomicLevelAt(parsed)
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.EncodeDuration = zapcore.StringDurationEncoder
	var enc zapcore.Encoder
	switch format {
	case "json":
		enc = zapcore.NewJSONEncoder(cfg)
	case "console":
		cfg.EncodeTime = consoleTime
		if journal {
			cfg.TimeKey = ""
		}
		cfg.EncodeLevel = zapcore.CapitalLevelEncoder
		cfg.ConsoleSeparator = " "
		enc = zapcore.NewConsoleEncoder(cfg)
	default:
		return nil, at, fmt.Errorf("log format %q: want console or json", format)
	}
	if journal {
		enc = journalEncoder{enc}
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(out)), at)), at, nil
}

// consoleTime has no date: who watches a terminal knows the day.
func consoleTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.Format("15:04:05.000"))
}

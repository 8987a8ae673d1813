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
	parsed, err := logLevel(level)
	if err != nil {
		return nil, zap.AtomicLevel{}, err
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

// logLevel reads the name of a level.
func logLevel(name string) (zapcore.Level, error) {
	level, err := zapcore.ParseLevel(name)
	if name == "" || err != nil || level < zapcore.DebugLevel || level > zapcore.ErrorLevel {
		return 0, fmt.Errorf("log level %q: want debug, info, warn or error", name)
	}
	return level, nil
}

// consoleTime has no date: who watches a terminal knows the day.
func consoleTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.Format("15:04:05.000"))
}

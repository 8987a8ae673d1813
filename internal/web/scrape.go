package web

import (
	"bufio"
	"compress/gzip"
	"io"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/common/expfmt"
	"go.uber.org/zap"
)

// Ten thousand peers have 110,000 series. They are written line by line while they are read, and
// not put into the data model of client_golang first, which took ten times the memory of the
// instance and most of the time of a scrape. What is not of peers is too little to matter, and the
// metrics of the process are written by expfmt.

// formats are those that a scraper may have, the preferred one first.
var formats = []expfmt.Format{expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtText}

// scrapeBuffer is how much of an answer is gathered for one write, in bytes.
const scrapeBuffer = 32 << 10

// scrapes has what scrapes use again: *peerTable and *gzip.Writer.
type scrapes struct{ tables, zips sync.Pool }

// metrics answers a scrape.
func (s *Site) metrics(w http.ResponseWriter, r *http.Request) {
	format := expfmt.NegotiateAccept(r.Header, formats...)
	h := w.Header()
	h.Set("Content-Type", string(format))
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	var err error
	if worthCompressing(r) {
		h.Set("Content-Encoding", "gzip")
		zip, ok := s.scrapes.zips.Get().(*gzip.Writer)
		if !ok {
			zip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels only
		}
		zip.Reset(w)
		if err = s.expose(zip, format); err == nil {
			err = zip.Close()
		}
		zip.Reset(nil)
		s.scrapes.zips.Put(zip)
	} else {
		err = s.expose(w, format)
	}
	if err != nil { // mostly scrapers that left
		s.log.Debug("scrape", zap.Error(err))
	}
}

// expose writes the metrics of the process and of the instance.
func (s *Site) expose(to io.Writer, format expfmt.Format) error {
	out := bufio.NewWriterSize(to, scrapeBuffer)
	open := format.FormatType() == expfmt.TypeOpenMetrics
	process, err := s.process.Gather()
	if err != nil {
		s.log.Debug("scrape: metrics of the process", zap.Error(err)) // those that there are follow
	}
	encoder := expfmt.NewEncoder(out, format)
	for _, f := range process {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	table, ok := s.scrapes.tables.Get().(*peerTable)
	if !ok {
		table = new(peerTable)
	}
	defer func() {
		table.reset()
		s.scrapes.tables.Put(table)
	}()
	instance := s.source.Sample()
	for _, f := range families(&instance, table) {
		if err := f.write(out, open); err != nil {
			return err
		}
	}
	if open {
		if _, err := expfmt.FinalizeOpenMetrics(out); err != nil {
			return err
		}
	}
	return out.Flush()
}

// write writes the metric with all its series. In OpenMetrics, the description of a counter names
// it without the suffix that its series have.
func (f *family) write(out *bufio.Writer, open bool) error {
	name, kind := f.name, " gauge\n"
	if f.counter {
		kind = " counter\n"
		if open {
			name = strings.TrimSuffix(name, "_total")
		}
	}
	if _, err := out.WriteString("# HELP " + name + " " + f.help + "\n# TYPE " + name + kind); err != nil {
		return err
	}
	for labels, value := range f.series {
		b := append(out.AvailableBuffer(), f.name...)
		if len(labels) > 0 {
			b = append(b, '{')
			b = append(b, labels...)
			b = append(b, '}')
		}
		b = appendValue(append(b, ' '), value)
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// appendLabel appends a label, whose value may be any text.
func appendLabel(b []byte, name, value string) []byte {
	b = append(append(b, name...), '=', '"')
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// appendValue appends a number: a whole one with all its digits.
func appendValue(b []byte, v float64) []byte {
	const exact = 1 << 53 // up to here every whole number is a float64
	if v == math.Trunc(v) && math.Abs(v) < exact {
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// worthCompressing reports whether an answer is to be compressed: the scraper understands gzip, and
// is on another host. On the same one, compression costs more than what it saves.
func worthCompressing(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr) // of a unix socket it is none
	if err != nil || from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, one := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(one, ";")
		_, weight, weighted := strings.Cut(quality, "q=")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}

package qrcode_test

import (
	"bytes"
	"errors"
	"image/png"
	"strings"
	"testing"
	"unicode/utf8"

	"tund/internal/qrcode"
)

func TestPNG_hasALightMargin(t *testing.T) {
	t.Parallel()
	data, err := qrcode.PNG("hello")
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	const margin, module = 4, 8 // modules, pixels
	b := picture.Bounds()
	dark := func(x, y int) bool { r, _, _, _ := picture.At(x, y).RGBA(); return r == 0 }
	for x := range b.Dx() {
		for y := range margin * module {
			if dark(x, y) || dark(y, x) || dark(x, b.Dy()-1-y) {
				t.Fatalf("a dark pixel in the margin, at %d, %d", x, y)
			}
		}
	}
	if !dark(margin*module, margin*module) { // the corner of the first finder pattern
		t.Error("the code does not begin behind the margin")
	}
}

func TestText_isAsWideAsItSays(t *testing.T) {
	t.Parallel()
	for _, fancy := range []bool{true, false} {
		text, err := qrcode.Text("hello", fancy, 80)
		if err != nil {
			t.Fatal(err)
		}
		want := 29 // 21 modules of version 1 and the margin
		if !fancy {
			want *= 2
		}
		plain := strings.NewReplacer("\x1b[30;107m", "", "\x1b[40m", "", "\x1b[107m", "", "\x1b[0m", "").Replace(string(text))
		for _, line := range strings.Split(strings.TrimSuffix(plain, "\n"), "\n") {
			if got := utf8.RuneCountInString(line); got != want {
				t.Errorf("UTF-8 %t: a line of %d columns, want %d", fancy, got, want)
			}
		}
		if _, err := qrcode.Text("hello", fancy, want-1); !errors.Is(err, qrcode.ErrTooWide) {
			t.Errorf("UTF-8 %t: a terminal one column too narrow: %v", fancy, err)
		}
	}
}

func TestEncode_saysWhatIsTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2954)
	if _, err := qrcode.PNG(long); !errors.Is(err, qrcode.ErrTooLong) || !strings.Contains(err.Error(), "2954 bytes") {
		t.Errorf("PNG: %v", err)
	}
	if _, err := qrcode.Text(long, true, 0); !errors.Is(err, qrcode.ErrTooLong) {
		t.Errorf("Text: %v", err)
	}
	if _, err := qrcode.PNG(long[:2953]); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}

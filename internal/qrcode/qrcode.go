// Package qrcode draws QR codes, as a picture for paper and as text for a terminal.
//
// It encodes bytes and does not interpret them. Codes may contain secrets: the caller decides where
// they are shown.
//
// Source: ISO/IEC 18004 (encoding by boombuler/barcode).
package qrcode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

// The reasons for which a code cannot be drawn.
var (
	ErrTooLong = errors.New("too many for a QR code, which holds at most 2953")
	ErrTooWide = errors.New("too narrow")
)

// quiet is the light margin around a code, in modules (ISO/IEC 18004 §5.3.8).
const quiet = 4

// pngModule is the width of a module in a picture, in pixels: sharp on a screen, and 30 mm on paper
// for the usual file.
const pngModule = 8

// encodeQR makes a code of text, as bytes: readers give back exactly those. It takes the first
// level of error correction at which the text fits.
func encodeQR(text string, levels ...qr.ErrorCorrectionLevel) (barcode.Barcode, error) {
	for _, level := range levels {
		if code, err := qr.Encode(text, level, qr.Unicode); err == nil {
			return code, nil
		}
	}
	return nil, fmt.Errorf("%d bytes: %w", len(text), ErrTooLong)
}

// dark reports whether the module at x, y is dark. Modules outside of the code are light.
func dark(code barcode.Barcode, x, y int) bool {
	if b := code.Bounds(); !(image.Point{x, y}).In(b) {
		return false
	}
	r, _, _, _ := code.At(x, y).RGBA()
	return r == 0
}

// PNG returns a code of text as a black and white picture, with enough error correction to survive
// print on paper that is folded, where text is short enough for that. The error wraps ErrTooLong.
func PNG(text string) ([]byte, error) {
	code, err := encodeQR(text, qr.M, qr.L)
	if err != nil {
		return nil, err
	}
	side := code.Bounds().Dx() + 2*quiet
	picture := image.NewPaletted(image.Rect(0, 0, side*pngModule, side*pngModule), color.Palette{color.White, color.Black})
	for y := range side * pngModule {
		for x := range side * pngModule {
			if dark(code, x/pngModule-quiet, y/pngModule-quiet) {
				picture.SetColorIndex(x, y, 1)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Text returns a code of text for a terminal, dark on light whatever the terminal's own colours
// are: with half blocks, two modules in a character, or without UTF-8 a module in two characters.
// width is that of the terminal, 0 for none: the file of a peer with IPv4 and IPv6 fits in 80
// columns at the lowest level of error correction, which is enough for a clean screen. The error
// wraps ErrTooLong or ErrTooWide.
func Text(text string, utf8 bool, width int) ([]byte, error) {
	code, err := encodeQR(text, qr.L)
	if err != nil {
		return nil, err
	}
	side := code.Bounds().Dx() + 2*quiet
	columns := side
	if !utf8 {
		columns *= 2
	}
	if width > 0 && columns > width {
		return nil, fmt.Errorf("the QR code needs %d columns, and the terminal has %d: %w", columns, width, ErrTooWide)
	}
	var b bytes.Buffer
	for y := 0; y < side; y++ {
		b.WriteString("\x1b[30;107m") // black on bright white
		for x := range side {
			top, bottom := dark(code, x-quiet, y-quiet), dark(code, x-quiet, y+1-quiet)
			switch {
			case !utf8 && top:
				b.WriteString("\x1b[40m##\x1b[107m")
			case !utf8:
				b.WriteString("  ")
			case top && bottom:
				b.WriteString("█")
			case top:
				b.WriteString("▀")
			case bottom:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
		if utf8 {
			y++
		}
	}
	return b.Bytes(), nil
}

package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"

	xfont "golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"tund/internal/linkbench/result"
)

// scale is how many dots of a PNG a pixel of the layout has, for screens with many dots.
const scale = 2

// PNG draws a report as a bitmap. An error means that a font could not be read.
func PNG(r *result.Report) ([]byte, error) {
	c := bitmap{Image: image.NewRGBA(image.Rect(0, 0, int(scale*width), int(scale*height(len(r.Rows))))), faces: make(map[font]xfont.Face)}
	var err error
	if c.regular, err = opentype.Parse(goregular.TTF); err == nil {
		c.bold, err = opentype.Parse(gobold.TTF)
	}
	if err == nil {
		lay(&c, r)
		err = c.err
	}
	if err != nil {
		return nil, fmt.Errorf("draw text: %w", err)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, c.Image); err != nil {
		return nil, fmt.Errorf("encode a picture: %w", err)
	}
	return out.Bytes(), nil
}

// bitmap is a canvas of dots.
type bitmap struct {
	draw.Image
	regular, bold *opentype.Font
	faces         map[font]xfont.Face // by size and weight
	err           error               // the first that happened
}

func (b *bitmap) rectangle(x, y, w, h float64, c color.RGBA) {
	at := func(v float64) int { return int(math.Round(scale * v)) }
	draw.Draw(b, image.Rect(at(x), at(y), max(at(x+w), at(x)+1), max(at(y+h), at(y)+1)), image.NewUniform(c), image.Point{}, draw.Src)
}

// face returns the face of a font, made once.
func (b *bitmap) face(f font) (xfont.Face, error) {
	key := font{size: f.size, bold: f.bold}
	if face := b.faces[key]; face != nil {
		return face, nil
	}
	outlines := b.regular
	if f.bold {
		outlines = b.bold
	}
	face, err := opentype.NewFace(outlines, &opentype.FaceOptions{Size: scale * f.size, DPI: 72, Hinting: xfont.HintingFull})
	b.faces[key] = face
	return face, err
}

func (b *bitmap) text(x, y float64, words string, f font) {
	face, err := b.face(f)
	if err != nil {
		b.err = err
		return
	}
	d := xfont.Drawer{Dst: b, Src: image.NewUniform(f.color), Face: face}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(scale * x * 64), Y: fixed.Int26_6(scale * y * 64)}
	if f.right {
		d.Dot.X -= d.MeasureString(words)
	}
	d.DrawString(words)
}

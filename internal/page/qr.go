package page

import (
	"errors"
	"fmt"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// maxQR bounds what is drawn: an otpauth address has a few hundred characters.
const maxQR = 1024

// QR draws text as a QR code: a picture in SVG, black on white whatever the colours around it, with the margin of four
// modules that ISO/IEC 18004 wants.
func QR(text string) (string, error) {
	if text == "" || len(text) > maxQR {
		return "", errors.New("page: nothing that a QR code would hold")
	}
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", fmt.Errorf("page: drawing a QR code: %w", err)
	}
	n := code.Bounds().Dx()
	var path strings.Builder
	for y := range n {
		for x := 0; x < n; x++ {
			from := x
			for x < n && dark(code.At(x, y).RGBA()) {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+4, y+4, x-from, x-from)
			}
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="%s"/></svg>`,
		n+8, n+8, 4*(n+8), 4*(n+8), n+8, n+8, path.String()), nil
}

func dark(r, _, _, _ uint32) bool { return r < 0x8000 }

package config

import (
	"sort"
	"unicode/utf8"
)

// The TOML library gives values without their places. A scanner (scanner.go) walks over the source
// and builds a tree of the same shape as the decoded values, with a byte offset for each. It
// decides nothing about validity: where the source is malformed it stops, and the decoder says why;
// where it knows less than the decoder, a value has the place of the table it is in.

// node is the place of one value.
type node struct {
	// Offset of its key; of the brackets for a table with a header; of the value for an element.
	key      int
	value    int // offset of the value; equal to key for a table with a header
	children map[string]*node
	elems    []*node
	tables   bool // an array of tables, made by [[headers]]: elems are tables
	defined  bool // by a header, or by an assignment; not only implied by a longer key
}

// child returns the place of the value called name, or n itself where there is none.
func (n *node) child(name string) *node {
	if c := n.children[name]; c != nil {
		return c
	}
	return n
}

// elem returns the place of the element at i, or n itself where there is none.
func (n *node) elem(i int) *node {
	if i < len(n.elems) {
		return n.elems[i]
	}
	return n
}

func (n *node) put(name string, c *node) {
	if n.children == nil {
		n.children = make(map[string]*node)
	}
	n.children[name] = c
}

// open returns the table that name stands for as a part of a longer key, made where there is none:
// for an array of tables it is the last one.
func (n *node) open(name string, at int) *node {
	c := n.children[name]
	if c == nil {
		c = &node{key: at, value: at}
		n.put(name, c)
	}
	if c.tables {
		c = c.elems[len(c.elems)-1]
	}
	return c
}

// lines turns offsets into lines and columns.
type lines struct {
	src    string
	starts []int
}

func newLines(src string) lines {
	starts := []int{0}
	for i := range len(src) {
		if src[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return lines{src: src, starts: starts}
}

// position returns the line and the column, in characters and both from 1, of the byte at offset.
func (l lines) position(offset int) (line, col int) {
	offset = max(0, min(offset, len(l.src)))
	for offset > 0 && offset < len(l.src) && !utf8.RuneStart(l.src[offset]) {
		offset-- // the TOML library points into the middle of characters now and then
	}
	line = sort.SearchInts(l.starts, offset+1)
	return line, 1 + utf8.RuneCountInString(l.src[l.starts[line-1]:offset])
}

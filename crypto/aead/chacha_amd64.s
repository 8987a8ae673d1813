//go:build gc && !purego && !tund_xcrypto

#include "textflag.h"

// ChaCha20 (RFC 8439 §2.3, §2.4) in AVX-512.
//
// A state is four rows of four words. One register holds the same row of four consecutive blocks,
// one in each 128-bit lane, so four registers, a group, are four blocks:
//
//	           lane 0    lane 1    lane 2    lane 3
//	row a      block 0   block 1   block 2   block 3     words  0 to  3, the constant
//	row b                                                words  4 to  7, half of the key
//	row c                                                words  8 to 11, the other half
//	row d                                                words 12 to 15, counter and nonce
//
// Why rows and not the other known layout, one register for each of the 16 words of 16 blocks: a
// packet has 2 to 24 blocks and seldom a multiple of 16, and groups come in fours. A quarter round
// is a chain of 12 instructions, so a single group leaves most of the machine idle and up to four
// groups cost hardly more time than one; the fifth and sixth are cheap. Six groups are 24 blocks:
// the Poly1305 key and 1472 bytes, a packet of any usual MTU, in one pass.
//
// Registers:
//
//	Z0-Z3, Z4-Z7, … Z20-Z23   rows a, b, c, d of groups 0 to 5
//	Z24 Z25 Z26               rows a, b, c as they were before the rounds, the same for each group
//	Z27                       row d likewise, of the group to be finished next
//	Z28                       4 in word 12, what one group adds to the counter
//	Z29 Z30                   temporary
//	Z31                       the keystream block in hand
//	DI, SI                    dst, src
//	BX                        bytes done
//	CX                        bytes in all; R8 = CX - 64, the last offset with a whole block
//	R10                       where the Poly1305 key goes; 0 once it is there
//	R9                        loop counter

DATA sigma<>+0(SB)/8, $0x3320646e61707865 // "expand 3"
DATA sigma<>+8(SB)/8, $0x6b20657479622d32 // "2-byte k"
GLOBL sigma<>(SB), RODATA|NOPTR, $16

// What each lane adds to the block counter.
DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0
DATA lanes<>+16(SB)/8, $1
DATA lanes<>+24(SB)/8, $0
DATA lanes<>+32(SB)/8, $2
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $3
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

// AXR is one line of the quarter round, on all columns: x += y; z = (z ^ x) <<< n.
#define AXR(x, y, z, n) \
	VPADDD y, x, x;  \
	VPXORD x, z, z;  \
	VPROLD $n, z, z

// QUARTER is the quarter round of all four columns of all four blocks.
#define QUARTER(a, b, c, d) \
	AXR(a, b, d, 16); \
	AXR(c, d, b, 12); \
	AXR(a, b, d, 8);  \
	AXR(c, d, b, 7)

// DIAGONAL turns the rows against each other so that diagonals become columns, COLUMN turns them
// back. Row b, the one computed last and needed first, stays where it is: the other three turn
// while the machine waits for it.
#define DIAGONAL(a, c, d) \
	VPSHUFD $0x93, a, a; \
	VPSHUFD $0x39, c, c; \
	VPSHUFD $0x4e, d, d

#define COLUMN(a, c, d) \
	VPSHUFD $0x39, a, a; \
	VPSHUFD $0x93, c, c; \
	VPSHUFD $0x4e, d, d

// START fills a group whose counters are one group after those in before.
#define START(before, a, b, c, d) \
	VMOVDQA64 Z24, a;       \
	VMOVDQA64 Z25, b;       \
	VMOVDQA64 Z26, c;       \
	VPADDD    Z28, before, d

// BLOCKS adds to a group what it was before the rounds and turns its rows into blocks, the first to
// the fourth in c, d, a, b.
#define BLOCKS(a, b, c, d) \
	VPADDD     Z24, a, a;          \
	VPADDD     Z25, b, b;          \
	VPADDD     Z26, c, c;          \
	VPADDD     Z27, d, d;          \
	VPADDD     Z28, Z27, Z27;      \
	VSHUFI32X4 $0x44, b, a, Z29;   \ // a0 a1 b0 b1
	VSHUFI32X4 $0xee, b, a, Z30;   \ // a2 a3 b2 b3
	VSHUFI32X4 $0x44, d, c, a;     \ // c0 c1 d0 d1
	VSHUFI32X4 $0xee, d, c, b;     \ // c2 c3 d2 d3
	VSHUFI32X4 $0x88, a, Z29, c;   \ // a0 b0 c0 d0
	VSHUFI32X4 $0xdd, a, Z29, d;   \ // a1 b1 c1 d1
	VSHUFI32X4 $0x88, b, Z30, a;   \ // a2 b2 c2 d2
	VSHUFI32X4 $0xdd, b, Z30, b    // a3 b3 c3 d3

// XOR encrypts the next block of the message with a block of keystream, or leaves for tail when
// less than a whole block is left.
#define XOR(z) \
	VMOVDQA64 z, Z31;            \
	CMPQ      BX, R8;            \
	JGT       tail;              \
	VPXORQ    (SI)(BX*1), z, z;  \
	VMOVDQU64 z, (DI)(BX*1);     \
	ADDQ      $64, BX

// func chachaXOR(dst, src *byte, n int, key *[32]byte, nonce *[12]byte, otk *[32]byte)
TEXT ·chachaXOR(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ key+24(FP), AX
	MOVQ nonce+32(FP), DX
	MOVQ otk+40(FP), R10

	VBROADCASTI32X4 sigma<>(SB), Z24
	VBROADCASTI32X4 (AX), Z25
	VBROADCASTI32X4 16(AX), Z26
	VBROADCASTI32X4 four<>(SB), Z28
	VMOVQ           (DX), X27
	VPINSRD         $2, 8(DX), X27, X27
	VPSLLDQ         $4, X27, X27
	VSHUFI32X4      $0, Z27, Z27, Z27
	VPADDD          lanes<>(SB), Z27, Z27

	XORL BX, BX
	LEAQ -64(CX), R8
	LEAQ 64(CX), R11 // bytes of keystream to come, the key block included

pass:
	// As few groups as are enough for what is left: 1, 2, 4 or 6.
	VMOVDQA64 Z24, Z0
	VMOVDQA64 Z25, Z1
	VMOVDQA64 Z26, Z2
	VMOVDQA64 Z27, Z3
	MOVL      $10, R9
	CMPQ      R11, $256
	JLE       one
	START(Z3, Z4, Z5, Z6, Z7)
	CMPQ      R11, $512
	JLE       two
	START(Z7, Z8, Z9, Z10, Z11)
	START(Z11, Z12, Z13, Z14, Z15)
	CMPQ      R11, $1024
	JLE       four
	START(Z15, Z16, Z17, Z18, Z19)
	START(Z19, Z20, Z21, Z22, Z23)

six:
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	QUARTER(Z8, Z9, Z10, Z11)
	QUARTER(Z12, Z13, Z14, Z15)
	QUARTER(Z16, Z17, Z18, Z19)
	QUARTER(Z20, Z21, Z22, Z23)
	DIAGONAL(Z0, Z2, Z3)
	DIAGONAL(Z4, Z6, Z7)
	DIAGONAL(Z8, Z10, Z11)
	DIAGONAL(Z12, Z14, Z15)
	DIAGONAL(Z16, Z18, Z19)
	DIAGONAL(Z20, Z22, Z23)
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	QUARTER(Z8, Z9, Z10, Z11)
	QUARTER(Z12, Z13, Z14, Z15)
	QUARTER(Z16, Z17, Z18, Z19)
	QUARTER(Z20, Z21, Z22, Z23)
	COLUMN(Z0, Z2, Z3)
	COLUMN(Z4, Z6, Z7)
	COLUMN(Z8, Z10, Z11)
	COLUMN(Z12, Z14, Z15)
	COLUMN(Z16, Z18, Z19)
	COLUMN(Z20, Z22, Z23)
	DECQ R9
	JNZ  six
	JMP  finish

four:
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	QUARTER(Z8, Z9, Z10, Z11)
	QUARTER(Z12, Z13, Z14, Z15)
	DIAGONAL(Z0, Z2, Z3)
	DIAGONAL(Z4, Z6, Z7)
	DIAGONAL(Z8, Z10, Z11)
	DIAGONAL(Z12, Z14, Z15)
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	QUARTER(Z8, Z9, Z10, Z11)
	QUARTER(Z12, Z13, Z14, Z15)
	COLUMN(Z0, Z2, Z3)
	COLUMN(Z4, Z6, Z7)
	COLUMN(Z8, Z10, Z11)
	COLUMN(Z12, Z14, Z15)
	DECQ R9
	JNZ  four
	JMP  finish

two:
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	DIAGONAL(Z0, Z2, Z3)
	DIAGONAL(Z4, Z6, Z7)
	QUARTER(Z0, Z1, Z2, Z3)
	QUARTER(Z4, Z5, Z6, Z7)
	COLUMN(Z0, Z2, Z3)
	COLUMN(Z4, Z6, Z7)
	DECQ R9
	JNZ  two
	JMP  finish

one:
	QUARTER(Z0, Z1, Z2, Z3)
	DIAGONAL(Z0, Z2, Z3)
	QUARTER(Z0, Z1, Z2, Z3)
	COLUMN(Z0, Z2, Z3)
	DECQ R9
	JNZ  one

finish:
	// Shared by all four loops: after fewer than six groups the message ends, and XOR leaves,
	// before a group that was not computed.
	BLOCKS(Z0, Z1, Z2, Z3)
	TESTQ   R10, R10
	JZ      data
	VMOVDQU Y2, (R10) // the key of Poly1305 is the first half of block 0
	XORL    R10, R10
	JMP     second

data:
	XOR(Z2)

second:
	XOR(Z3)
	XOR(Z0)
	XOR(Z1)
	BLOCKS(Z4, Z5, Z6, Z7)
	XOR(Z6)
	XOR(Z7)
	XOR(Z4)
	XOR(Z5)
	BLOCKS(Z8, Z9, Z10, Z11)
	XOR(Z10)
	XOR(Z11)
	XOR(Z8)
	XOR(Z9)
	BLOCKS(Z12, Z13, Z14, Z15)
	XOR(Z14)
	XOR(Z15)
	XOR(Z12)
	XOR(Z13)
	BLOCKS(Z16, Z17, Z18, Z19)
	XOR(Z18)
	XOR(Z19)
	XOR(Z16)
	XOR(Z17)
	BLOCKS(Z20, Z21, Z22, Z23)
	XOR(Z22)
	XOR(Z23)
	XOR(Z20)
	XOR(Z21)
	MOVQ CX, R11
	SUBQ BX, R11
	JNZ  pass
	JMP  done

tail:
	// The mask keeps bytes past the end from being read or written.
	SUBQ       BX, CX // 0 to 63 bytes
	JZ         done
	MOVQ       $-1, AX
	BZHIQ      CX, AX, AX
	KMOVQ      AX, K1
	VMOVDQU8.Z (SI)(BX*1), K1, Z30
	VPXORQ     Z30, Z31, Z31
	VMOVDQU8   Z31, K1, (DI)(BX*1)

done:
	// The key would otherwise stay in registers that nothing else here uses.
	VPXORQ     Z25, Z25, Z25
	VPXORQ     Z26, Z26, Z26
	VZEROUPPER
	RET

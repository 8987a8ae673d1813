//go:build gc && !purego && !tund_xcrypto

#include "textflag.h"

// Poly1305 (RFC 8439 §2.5) over the message of an AEAD without additional data: its blocks, the
// last one filled up with zeros, and one block more that holds the lengths (RFC 8439 §2.8).
//
// Up to 240 bytes, with the lengths 16 blocks, go through the multiplier of the integer unit, a
// block at a time. Longer messages pay for the powers of r that eight blocks at a time need.
//
// # Vectors
//
// A number modulo p = 2^130-5 is three limbs of 44 bits, x0 + x1·2^44 + x2·2^88; a register holds
// one limb of eight numbers. VPMADD52LUQ and VPMADD52HUQ multiply the low 52 bits of two lanes and
// add the low or the high half of the 104-bit product to a third. As 2^132 = 4·2^130 = 20 modulo p,
// the product of x and r is, with s1 = 20·r1 and s2 = 20·r2,
//
//	d0 = x0·r0 + x1·s2 + x2·s1
//	d1 = x0·r1 + x1·r0 + x2·s2
//	d2 = x0·r2 + x1·r1 + x2·r0
//
// each as a low sum, worth 2^44k, and a high sum, worth 2^(44k+52) = 2^8·2^44(k+1).
//
// Sixteen blocks are a step. With a its first eight blocks and b its last, lane by lane,
//
//	h = (h + a)·r^16 + b·r^8
//
// so that the chain from one h to the next, 30 cycles or so of latency, is paid once for 256 bytes.
// In the last step each lane is multiplied by the power its own block needs, r^16 to r^9 and r^8 to
// r^1, and the sum of the lanes is the result. For that the message ends at the end of a step:
// blocks are missing from the front of the first step, and are zero, without the bit that marks a
// block. There are always two steps or more, so the first is never the last.
//
// # Bounds
//
// CARRY carries once, all limbs at the same time, and leaves every limb below 2^44+2^16. h + a is
// then below 2^45+2^16, s below 2^48.4. A low sum is at most 6·2^52. A high sum of d2 is below
// 3·2^37.1 + 3·2^36.1 < 2^39.4, so times 20·2^8 it stays below 2^52, which is all that VPMADD52LUQ
// gives; those of d0 and d1 are below 2^43.2. The sums that CARRY cuts are so below 7·2^52 +
// 2^51.2, the carries below 2^11, and 20 of them below 2^15.4.
//
// The multiplier's inputs are below 2^49 throughout, and the lanes' sum of eight cut sums below
// 2^58.
//
// Registers:
//
//	Z0 Z1 Z2             r^8 to r^1, by lane
//	Z3 Z4 Z5             r^16 to r^9, by lane
//	Z6 Z7 Z8, Z9 Z10     r^8 in all lanes, its s1, s2
//	Z11 Z12 Z13, Z14 Z15 r^16 in all lanes, its s1, s2
//	Z16 Z17 Z18          h
//	Z19 Z20 Z21          low sums
//	Z22 Z23 Z24          high sums
//	Z25 Z26 Z27          temporary
//	Z28                  2^44-1
//	Z29                  20
//	Z30                  20·2^8
//	Z31                  2^40, in the third limb the bit 2^128 that marks a block

// SUMS is the product of x's limb and y0, y1, y2, added to the six sums.
#define SUMS(x, y0, y1, y2) \
	VPMADD52LUQ y0, x, Z19; \
	VPMADD52HUQ y0, x, Z22; \
	VPMADD52LUQ y1, x, Z20; \
	VPMADD52HUQ y1, x, Z23; \
	VPMADD52LUQ y2, x, Z21; \
	VPMADD52HUQ y2, x, Z24

#define CLEAR() \
	VPXORQ Z19, Z19, Z19; \
	VPXORQ Z20, Z20, Z20; \
	VPXORQ Z21, Z21, Z21; \
	VPXORQ Z22, Z22, Z22; \
	VPXORQ Z23, Z23, Z23; \
	VPXORQ Z24, Z24, Z24

// MULTIPLY adds x·r to the sums.
#define MULTIPLY(x0, x1, x2, r0, r1, r2, s1, s2) \
	SUMS(x0, r0, r1, r2); \
	SUMS(x1, s2, r0, r1); \
	SUMS(x2, s1, s2, r0)

// FOLD adds the high sums to the low ones.
#define FOLD() \
	VPMADD52LUQ Z30, Z24, Z19; \
	VPSLLQ      $8, Z22, Z22;  \
	VPSLLQ      $8, Z23, Z23;  \
	VPADDQ      Z22, Z20, Z20; \
	VPADDQ      Z23, Z21, Z21

// CARRY cuts the sums into the limbs of x.
#define CARRY(x0, x1, x2) \
	FOLD();                    \
	VPSRLQ      $44, Z19, Z25; \
	VPSRLQ      $44, Z20, Z26; \
	VPSRLQ      $44, Z21, Z27; \
	VPANDQ      Z28, Z19, x0;  \
	VPANDQ      Z28, Z20, x1;  \
	VPANDQ      Z28, Z21, x2;  \
	VPMADD52LUQ Z29, Z27, x0;  \
	VPADDQ      Z25, x1, x1;   \
	VPADDQ      Z26, x2, x2

// TWENTY is s = 20·r.
#define TWENTY(r, s) \
	VPSLLQ $4, r, s;   \
	VPSLLQ $2, r, Z25; \
	VPADDQ Z25, s, s

// SPREAD is the number in lane 0 of x (whose low parts are given), in all lanes of r, and its s.
#define SPREAD(x0, x1, x2, r0, r1, r2, s1, s2) \
	VPBROADCASTQ x0, r0; \
	VPBROADCASTQ x1, r1; \
	VPBROADCASTQ x2, r2; \
	TWENTY(r1, s1);      \
	TWENTY(r2, s2)

// HALVES sorts the low and the high halves of eight blocks, four in Z25, four in Z27, into Z25 and
// Z26. The lanes then hold blocks 0, 4, 1, 5, 2, 6, 3, 7.
#define HALVES() \
	VPUNPCKHQDQ Z27, Z25, Z26; \
	VPUNPCKLQDQ Z27, Z25, Z25

// FRONT loads four blocks of the first step, those that mask has: from offset or, if that is before
// the message, from its first block on. A masked load from offset would be shorter, but one whose
// masked part is in a page that is not there costs 600 cycles, though it does not fault.
#define FRONT(offset, mask, z) \
	LEAQ         offset(SI), AX; \
	CMPQ         AX, R8;         \
	CMOVQCS      R8, AX;         \
	VMOVDQU64    (AX), z;        \
	VPEXPANDQ.Z  z, mask, z

// ADDLIMBS adds the limbs of the eight blocks in Z25 and Z26 to h. mark is the bit of a block.
#define ADDLIMBS(mark) \
	VPANDQ     Z28, Z25, Z27;         \
	VPADDQ     Z27, Z16, Z16;         \
	VPSRLQ     $44, Z25, Z25;         \
	VPSLLQ     $20, Z26, Z27;         \
	VPTERNLOGQ $0xa8, Z28, Z27, Z25;  \ // (Z25 | Z27) & Z28
	VPADDQ     Z25, Z17, Z17;         \
	VPSRLQ     $24, Z26, Z26;         \
	VPORQ      mark, Z26, Z26;        \
	VPADDQ     Z26, Z18, Z18

// TIMES adds the product of those eight blocks and r to the sums.
#define TIMES(mark, r0, r1, r2, s1, s2) \
	VPANDQ     Z28, Z25, Z27;        \
	SUMS(Z27, r0, r1, r2);           \
	VPSRLQ     $44, Z25, Z25;        \
	VPSLLQ     $20, Z26, Z27;        \
	VPTERNLOGQ $0xa8, Z28, Z27, Z25; \
	SUMS(Z25, s2, r0, r1);           \
	VPSRLQ     $24, Z26, Z26;        \
	VPORQ      mark, Z26, Z26;       \
	SUMS(Z26, s1, s2, r0)

// LANESUM is the sum of z's lanes, in r. y and x are z's low parts.
#define LANESUM(z, y, x, r) \
	VEXTRACTI64X4 $1, z, Y25;   \
	VPADDQ        Y25, y, y;    \
	VEXTRACTI64X2 $1, y, X25;   \
	VPADDQ        X25, x, x;    \
	VPSRLDQ       $8, x, X25;   \
	VPADDQ        X25, x, x;    \
	VMOVQ         x, r

// # Integers
//
// h is h0 + h1·2^64 + h2·2^128. r is r0 + r1·2^64 with both below 2^60, and r1 is a multiple of 4:
// modulo p then 2^128·r1 = 2^130·(r1/4) = 5·(r1/4) = r1 + r1/4, which is s1, below 2^60.4.
//
//	R8 R9 R10       r0, r1, s1
//	R11 R12 R13     h0, h1, h2
//	SI, CX          what is left of the message
//	AX BX DX DI R14 temporary

// BLOCK is h·r, reduced so far that h2 is at most 4. It comes after a block was added, so h2 is at
// most 6 before.
//
// h0·r0 + h1·s1 is below 2^126, h0·r1 + h1·r0 below 2^125, h2·s1 below 2^63 and h2·r0 below 2^62.6:
// the sums of words do not overflow, nor does 5·(h2/4) at the end, with h2 below 2^63.2.
#define BLOCK() \
	MOVQ  R8, DX;           \
	MULXQ R11, AX, BX;      \ // h0·r0
	MULXQ R12, DI, R14;     \ // h1·r0
	MOVQ  R9, DX;           \
	MULXQ R11, R11, DX;     \ // h0·r1
	ADDQ  R11, DI;          \
	ADCQ  DX, R14;          \
	MOVQ  R10, DX;          \
	MULXQ R12, R12, DX;     \ // h1·s1
	ADDQ  R12, AX;          \
	ADCQ  DX, BX;           \
	MOVQ  R13, R12;         \
	IMULQ R10, R12;         \ // h2·s1
	IMULQ R8, R13;          \ // h2·r0
	ADDQ  R12, DI;          \
	ADCQ  $0, R14;          \
	ADDQ  BX, DI;           \
	ADCQ  R14, R13;         \
	MOVQ  R13, BX;          \ // 5·(h2/4) goes back to the bottom
	MOVQ  R13, R11;         \
	ANDQ  $-4, BX;          \
	SHRQ  $2, R11;          \
	ANDL  $3, R13;          \
	ADDQ  BX, R11;          \
	MOVQ  DI, R12;          \
	ADDQ  AX, R11;          \
	ADCQ  $0, R12;          \
	ADCQ  $0, R13

// func polyTag(tag *[16]byte, msg *byte, n int, otk *[32]byte)
TEXT ·polyTag(SB), NOSPLIT, $0-32
	MOVQ msg+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ otk+24(FP), DI
	MOVQ (DI), R8
	MOVQ 8(DI), R9
	MOVQ $0x0ffffffc0fffffff, AX
	ANDQ AX, R8
	MOVQ $0x0ffffffc0ffffffc, AX
	ANDQ AX, R9
	CMPQ CX, $240
	JGT  vector

	MOVQ R9, R10
	SHRQ $2, R10
	ADDQ R9, R10
	XORL R11, R11
	XORL R12, R12
	XORL R13, R13
	SUBQ $16, CX
	JLT  partial

block:
	ADDQ (SI), R11
	ADCQ 8(SI), R12
	ADCQ $1, R13
	BLOCK()
	ADDQ $16, SI
	SUBQ $16, CX
	JGE  block

partial:
	ADDQ       $16, CX
	JZ         lengths
	MOVL       $-1, AX
	BZHIL      CX, AX, AX
	KMOVD      AX, K1
	VMOVDQU8.Z (SI), K1, X0
	VMOVQ      X0, AX
	VPEXTRQ    $1, X0, BX
	ADDQ       AX, R11
	ADCQ       BX, R12
	ADCQ       $1, R13
	BLOCK()

lengths:
	// The lengths: no additional data, and n.
	ADDQ n+16(FP), R12
	ADCQ $1, R13
	BLOCK()

finish:
	// h is below 1.25·2^130. h mod p is h + 5 without its bit 2^130 if that is set, h otherwise.
	MOVQ    R11, AX
	MOVQ    R12, BX
	ADDQ    $5, AX
	ADCQ    $0, BX
	ADCQ    $0, R13
	SHRQ    $2, R13 // sets ZF
	CMOVQNE AX, R11
	CMOVQNE BX, R12

	MOVQ tag+0(FP), SI
	MOVQ otk+24(FP), DI
	ADDQ 16(DI), R11
	ADCQ 24(DI), R12
	MOVQ R11, (SI)
	MOVQ R12, 8(SI)

	// The key has done what it is for.
	VPXOR      Y0, Y0, Y0
	VMOVDQU    Y0, (DI)
	VZEROUPPER
	RET

vector:
	MOVQ         $0xfffffffffff, DX
	VPBROADCASTQ DX, Z28
	MOVL         $20, AX
	VPBROADCASTQ AX, Z29
	SHLQ         $8, AX
	VPBROADCASTQ AX, Z30
	MOVQ         $0x10000000000, AX
	VPBROADCASTQ AX, Z31

	// r in all lanes.
	MOVQ         R8, AX
	ANDQ         DX, AX
	VPBROADCASTQ AX, Z6
	SHRQ         $44, R8
	MOVQ         R9, BX
	SHLQ         $20, BX
	ORQ          R8, BX
	ANDQ         DX, BX
	VPBROADCASTQ BX, Z7
	SHRQ         $24, R9
	VPBROADCASTQ R9, Z8
	TWENTY(Z7, Z9)
	TWENTY(Z8, Z10)

	// r^2 in all lanes.
	CLEAR()
	MULTIPLY(Z6, Z7, Z8, Z6, Z7, Z8, Z9, Z10)
	CARRY(Z11, Z12, Z13)
	TWENTY(Z12, Z14)
	TWENTY(Z13, Z15)

	// The powers 2 2 1 1 2 2 1 1, times r^2: 4 4 3 3 4 4 3 3.
	MOVL      $0x33, AX
	KMOVW     AX, K1
	VPBLENDMQ Z11, Z6, K1, Z0
	VPBLENDMQ Z12, Z7, K1, Z1
	VPBLENDMQ Z13, Z8, K1, Z2
	CLEAR()
	MULTIPLY(Z0, Z1, Z2, Z11, Z12, Z13, Z14, Z15)
	CARRY(Z3, Z4, Z5)

	// The powers 4 4 3 3 2 2 1 1, times r^4: 8 8 7 7 6 6 5 5.
	MOVL      $0x0f, AX
	KMOVW     AX, K1
	VMOVDQA64 Z3, K1, Z0
	VMOVDQA64 Z4, K1, Z1
	VMOVDQA64 Z5, K1, Z2
	SPREAD(X3, X4, X5, Z6, Z7, Z8, Z9, Z10)
	CLEAR()
	MULTIPLY(Z0, Z1, Z2, Z6, Z7, Z8, Z9, Z10)
	CARRY(Z3, Z4, Z5)

	// The powers 8 4 7 3 6 2 5 1, which is the order HALVES gives blocks, times r^8: 16 12 15 11 14
	// 10 13 9.
	MOVL      $0x55, AX
	KMOVW     AX, K1
	VMOVDQA64 Z3, K1, Z0
	VMOVDQA64 Z4, K1, Z1
	VMOVDQA64 Z5, K1, Z2
	SPREAD(X3, X4, X5, Z6, Z7, Z8, Z9, Z10)
	CLEAR()
	MULTIPLY(Z0, Z1, Z2, Z6, Z7, Z8, Z9, Z10)
	CARRY(Z3, Z4, Z5)
	SPREAD(X3, X4, X5, Z11, Z12, Z13, Z14, Z15)

	// The blocks, with that of the lengths, in DX; how many the first step lacks of 16, in BX.
	LEAQ 31(CX), DX
	SHRQ $4, DX
	MOVQ DX, BX
	NEGQ BX
	ANDQ $15, BX

	// The first step, which begins at SI, before the message in R8 if blocks are missing. A mask
	// has a bit for each half of a block.
	MOVQ       SI, R8
	MOVQ       BX, AX
	SHLQ       $4, AX
	SUBQ       AX, SI
	ADDQ       AX, CX // n counts from SI
	ADDL       BX, BX
	MOVL       $-1, AX
	SHLXL      BX, AX, AX
	KMOVW      AX, K1
	SHRL       $8, AX
	KMOVW      AX, K2
	SHRL       $8, AX
	KMOVW      AX, K3
	SHRL       $8, AX
	KMOVW      AX, K4
	CLEAR()
	FRONT(128, K3, Z25)
	FRONT(192, K4, Z27)
	VMOVDQA64.Z Z31, K3, Z16
	VMOVDQA64.Z Z31, K4, Z17
	VPUNPCKLQDQ Z17, Z16, Z18
	HALVES()
	TIMES(Z18, Z6, Z7, Z8, Z9, Z10)
	FRONT(0, K1, Z25)
	FRONT(64, K2, Z27)
	HALVES()
	VMOVDQA64.Z Z31, K1, Z16
	VMOVDQA64.Z Z31, K2, Z17
	VPUNPCKLQDQ Z17, Z16, Z27
	VPSRLQ      $24, Z26, Z18
	VPORQ       Z27, Z18, Z18
	VPANDQ      Z28, Z25, Z16
	VPSRLQ      $44, Z25, Z17
	VPSLLQ      $20, Z26, Z27
	VPTERNLOGQ  $0xa8, Z28, Z27, Z17
	MULTIPLY(Z16, Z17, Z18, Z11, Z12, Z13, Z14, Z15)
	CARRY(Z16, Z17, Z18)
	ADDQ        $256, SI
	SUBQ        $512, CX // negative in the last step, which has at most 240 bytes
	JLT         last

step:
	VMOVDQU64 128(SI), Z25
	VMOVDQU64 192(SI), Z27
	HALVES()
	CLEAR()
	TIMES(Z31, Z6, Z7, Z8, Z9, Z10)
	VMOVDQU64 (SI), Z25
	VMOVDQU64 64(SI), Z27
	HALVES()
	ADDLIMBS(Z31)
	MULTIPLY(Z16, Z17, Z18, Z11, Z12, Z13, Z14, Z15)
	CARRY(Z16, Z17, Z18)
	ADDQ      $256, SI
	SUBQ      $256, CX
	JGE       step

last:
	// s of the powers by lane; r^8 and r^16 in all lanes are no longer needed.
	TWENTY(Z1, Z9)
	TWENTY(Z2, Z10)
	TWENTY(Z4, Z14)
	TWENTY(Z5, Z15)

	// 225 to 240 bytes are left. The last four blocks are those from 192 and that of the lengths;
	// the load begins a block before so that it ends with the message, and a mask is needed only
	// for the last block.
	ADDQ       $80, CX // what is left past 176 bytes, 49 to 64
	MOVQ       $-1, AX
	BZHIQ      CX, AX, AX
	KMOVQ      AX, K1
	VMOVQ      n+16(FP), X26
	VPSLLDQ    $8, X26, X26
	VMOVDQU64  128(SI), Z25
	VMOVDQU8.Z 176(SI), K1, Z27
	VALIGNQ    $2, Z27, Z26, Z27
	HALVES()

	CLEAR()
	TIMES(Z31, Z0, Z1, Z2, Z9, Z10)
	VMOVDQU64 (SI), Z25
	VMOVDQU64 64(SI), Z27
	HALVES()
	ADDLIMBS(Z31)
	MULTIPLY(Z16, Z17, Z18, Z3, Z4, Z5, Z14, Z15)
	FOLD()
	LANESUM(Z19, Y19, X19, R11)
	LANESUM(Z20, Y20, X20, R12)
	LANESUM(Z21, Y21, X21, R13)

	// Carry once, fold what is past 2^130, and put the limbs together.
	MOVQ $0xfffffffffff, DX
	MOVQ R11, AX
	SHRQ $44, AX
	ANDQ DX, R11
	ADDQ AX, R12
	MOVQ R12, AX
	SHRQ $44, AX
	ANDQ DX, R12
	ADDQ AX, R13
	MOVQ R13, AX
	SHRQ $42, AX
	LEAQ (AX)(AX*4), AX
	ADDQ AX, R11
	SHRQ $2, DX
	ANDQ DX, R13
	MOVQ R12, AX
	SHLQ $44, AX
	SHRQ $20, R12
	MOVQ R13, BX
	SHLQ $24, BX
	SHRQ $40, R13
	ADDQ AX, R11
	ADCQ BX, R12
	ADCQ $0, R13
	JMP  finish

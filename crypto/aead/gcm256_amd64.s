//go:build gc && !purego && !tund_xcrypto

#include "textflag.h"

// AES-256-GCM in VAES and VPCLMULQDQ on registers of 256 bits, for processors that have those
// instructions but not AVX-512 (Zen 3, Alder Lake and later of Intel's for clients).
//
// gcm_amd64.s explains how; this differs in that a register holds two blocks, a step handles eight,
// and that there are but 16 registers and no masks: round keys are loaded where they are used, and
// less than a vector at the end of a message is handled on the stack.
//
// Registers:
//
//	Y0-Y3    counters, then what AES has made of them, then the message
//	Y4       the round key in use, the same in both lanes
//	Y5 Y6 Y7 the sum of the products so far: words 0 and 1, words 1 and 2, words 2 and 3. Y7 is
//	         also the hash between two steps
//	Y8-Y11   ciphertext to be hashed, with the bytes of each block reversed
//	Y12      a power of H
//	Y13      the order that reverses the bytes of a block
//	Y14      the next two counters, with their bytes reversed
//	Y15      temporary; in the first step block 1, which is then kept where the tag goes
//	DI SI    dst, src
//	BX       the key: H^20 to H^1, then the round keys
//	CX       the length of the message; AX: of its last vector
//	DX       where the tag goes
//	R13      the mask of the last vector of this step; R14 and R15: where it comes from and goes to

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA poly<>+0(SB)/8, $0xc200000000000000
DATA poly<>+8(SB)/8, $0xc200000000000000
DATA poly<>+16(SB)/8, $0xc200000000000000
DATA poly<>+24(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $32

// What the counters of the first two blocks are ahead of block 1's.
DATA first<>+0(SB)/8, $1
DATA first<>+8(SB)/8, $0
DATA first<>+16(SB)/8, $2
DATA first<>+24(SB)/8, $0
GLOBL first<>(SB), RODATA|NOPTR, $32

DATA next<>+0(SB)/8, $2
DATA next<>+8(SB)/8, $0
DATA next<>+16(SB)/8, $2
DATA next<>+24(SB)/8, $0
GLOBL next<>(SB), RODATA|NOPTR, $32

// At 32-n begins the mask of n bytes.
DATA ones<>+0(SB)/8, $0xffffffffffffffff
DATA ones<>+8(SB)/8, $0xffffffffffffffff
DATA ones<>+16(SB)/8, $0xffffffffffffffff
DATA ones<>+24(SB)/8, $0xffffffffffffffff
DATA ones<>+32(SB)/8, $0
DATA ones<>+40(SB)/8, $0
DATA ones<>+48(SB)/8, $0
DATA ones<>+56(SB)/8, $0
GLOBL ones<>(SB), RODATA|NOPTR, $64

// KEY loads a round key.
#define KEY(n) \
	VBROADCASTI128 (20*16+n*16)(BX), Y4

// COUNT begins the encryption of the next two counters.
#define COUNT(y) \
	VPSHUFB Y13, Y14, y;          \
	VPADDD  next<>(SB), Y14, Y14; \
	VPXOR   Y4, y, y

// ROUND0 to ROUND4 are one round of AES for block 1 and as many registers of counters.
#define ROUND0(n) \
	KEY(n);              \
	VAESENC X4, X15, X15

#define ROUND1(n) \
	ROUND0(n);           \
	VAESENC Y4, Y0, Y0

#define ROUND2(n) \
	ROUND1(n);           \
	VAESENC Y4, Y1, Y1

#define ROUND3(n) \
	ROUND2(n);           \
	VAESENC Y4, Y2, Y2

#define ROUND4(n) \
	ROUND3(n);           \
	VAESENC Y4, Y3, Y3

#define ROUNDS(round) \
	round(1);                   \
	round(2);                   \
	round(3);                   \
	round(4);                   \
	round(5);                   \
	round(6);                   \
	round(7);                   \
	round(8);                   \
	round(9);                   \
	round(10);                  \
	round(11);                  \
	round(12);                  \
	round(13);                  \
	KEY(14);                    \
	VAESENCLAST X4, X15, X15;   \
	VMOVDQU     X15, (DX)

#define ROUND(n) \
	KEY(n);             \
	VAESENC Y4, Y0, Y0; \
	VAESENC Y4, Y1, Y1; \
	VAESENC Y4, Y2, Y2; \
	VAESENC Y4, Y3, Y3

// MULTIPLY adds the products of y and Y12 to the sum. It overwrites y.
#define MULTIPLY(y) \
	VPCLMULQDQ $0x00, Y12, y, Y15; \
	VPXOR      Y15, Y5, Y5;        \
	VPCLMULQDQ $0x11, Y12, y, Y15; \
	VPXOR      Y15, Y7, Y7;        \
	VPCLMULQDQ $0x01, Y12, y, Y15; \
	VPCLMULQDQ $0x10, Y12, y, y;   \
	VPXOR      Y15, Y6, Y6;        \
	VPXOR      y, Y6, Y6

// REDUCE1 and REDUCE2 make of the sum a hash, in Y7. Each makes the lowest word zero.
#define REDUCE1 \
	VPCLMULQDQ $0x00, poly<>(SB), Y5, Y15; \
	VPSHUFD    $0x4e, Y5, Y5;              \
	VPXOR      Y15, Y6, Y6;                \
	VPXOR      Y5, Y6, Y6

#define REDUCE2 \
	VPCLMULQDQ $0x00, poly<>(SB), Y6, Y15; \
	VPSHUFD    $0x4e, Y6, Y6;              \
	VPXOR      Y15, Y7, Y7;                \
	VPXOR      Y6, Y7, Y7

// STITCHED is all rounds of AES but the last for four registers, and the hash of Y8 to Y11.
#define STITCHED \
	ROUND(1);                            \
	VPXOR          Y7, Y8, Y8;           \
	VBROADCASTI128 (12*16)(BX), Y12;     \
	VPCLMULQDQ     $0x00, Y12, Y8, Y5;   \
	VPCLMULQDQ     $0x11, Y12, Y8, Y7;   \
	ROUND(2);                            \
	VPCLMULQDQ     $0x01, Y12, Y8, Y6;   \
	VPCLMULQDQ     $0x10, Y12, Y8, Y8;   \
	VPXOR          Y8, Y6, Y6;           \
	ROUND(3);                            \
	VBROADCASTI128 (14*16)(BX), Y12;     \
	VPCLMULQDQ     $0x00, Y12, Y9, Y15;  \
	VPXOR          Y15, Y5, Y5;          \
	ROUND(4);                            \
	VPCLMULQDQ     $0x11, Y12, Y9, Y15;  \
	VPXOR          Y15, Y7, Y7;          \
	VPCLMULQDQ     $0x01, Y12, Y9, Y15;  \
	VPCLMULQDQ     $0x10, Y12, Y9, Y9;   \
	VPXOR          Y15, Y6, Y6;          \
	VPXOR          Y9, Y6, Y6;           \
	ROUND(5);                            \
	VBROADCASTI128 (16*16)(BX), Y12;     \
	VPCLMULQDQ     $0x00, Y12, Y10, Y15; \
	VPXOR          Y15, Y5, Y5;          \
	ROUND(6);                            \
	VPCLMULQDQ     $0x11, Y12, Y10, Y15; \
	VPXOR          Y15, Y7, Y7;          \
	VPCLMULQDQ     $0x01, Y12, Y10, Y15; \
	VPCLMULQDQ     $0x10, Y12, Y10, Y10; \
	VPXOR          Y15, Y6, Y6;          \
	VPXOR          Y10, Y6, Y6;          \
	ROUND(7);                            \
	VBROADCASTI128 (18*16)(BX), Y12;     \
	VPCLMULQDQ     $0x00, Y12, Y11, Y15; \
	VPXOR          Y15, Y5, Y5;          \
	ROUND(8);                            \
	VPCLMULQDQ     $0x11, Y12, Y11, Y15; \
	VPXOR          Y15, Y7, Y7;          \
	VPCLMULQDQ     $0x01, Y12, Y11, Y15; \
	VPCLMULQDQ     $0x10, Y12, Y11, Y11; \
	VPXOR          Y15, Y6, Y6;          \
	VPXOR          Y11, Y6, Y6;          \
	ROUND(9);                            \
	REDUCE1;                             \
	ROUND(10);                           \
	ROUND(11);                           \
	REDUCE2;                             \
	ROUND(12);                           \
	ROUND(13);                           \
	KEY(14)

// LAST prepares R13, R14 and R15 for the last step, which has the given number of bytes, the last
// vector counted as whole.
#define LAST(bytes) \
	LEAQ    -32(SI)(bytes*1), R14; \
	LEAQ    -32(DI)(bytes*1), R15; \
	LEAQ    tail-32(SP), R8;       \
	LEAQ    ones<>+32(SB), R13;    \
	SUBQ    AX, R13;               \
	CMPQ    AX, $32;               \
	CMOVQNE R8, R14;               \
	CMOVQNE R8, R15

// FINISH is the last round of y, and the message that it encrypts; h becomes what is hashed.
// FINISHLAST is the same for the last vector of a step.
#define FINISH(offset, y, h) \
	VPXOR       offset(SI), Y4, h; \
	VAESENCLAST h, y, y;           \
	VMOVDQU     y, offset(DI);     \
	VPSHUFB     Y13, y, h

#define FINISHLAST(y, h) \
	VPXOR       (R14), Y4, h; \
	VAESENCLAST h, y, y;      \
	VMOVDQU     y, (R15);     \
	VPAND       (R13), y, y;  \
	VPSHUFB     Y13, y, h

// func gcmSeal256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)
TEXT ·gcmSeal256(SB), NOSPLIT, $32-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ key+24(FP), BX
	MOVQ nonce+32(FP), R9
	MOVQ tag+40(FP), DX

#include "gcm256_amd64.h"

#undef FINISH
#undef FINISHLAST

#define FINISH(offset, y, h) \
	VMOVDQU     offset(SI), h; \
	VPXOR       h, Y4, Y15;    \
	VAESENCLAST Y15, y, y;     \
	VMOVDQU     y, offset(DI); \
	VPSHUFB     Y13, h, h

#define FINISHLAST(y, h) \
	VMOVDQU     (R14), h;   \
	VPXOR       h, Y4, Y15; \
	VAESENCLAST Y15, y, y;  \
	VMOVDQU     y, (R15);   \
	VPSHUFB     Y13, h, h

// func gcmOpen256(dst, src *byte, n int, key *gcmKey, nonce *[12]byte, tag *[16]byte)
TEXT ·gcmOpen256(SB), NOSPLIT, $32-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ key+24(FP), BX
	MOVQ nonce+32(FP), R9
	MOVQ tag+40(FP), DX

#include "gcm256_amd64.h"

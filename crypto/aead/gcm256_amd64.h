// The body of gcmSeal256 and gcmOpen256, which differ in FINISH and FINISHLAST: see gcm256_amd64.s,
// which also says what the registers are.

	VBROADCASTI128 reverse<>(SB), Y13

	// Block 1, which encrypts the tag, and the counters of the first two blocks of the message.
	MOVL           $0x01000000, AX
	VMOVQ          (R9), X15
	VPINSRD        $2, 8(R9), X15, X15
	VPINSRD        $3, AX, X15, X15
	VPSHUFB        X13, X15, X14
	VPXOR          (20*16)(BX), X15, X15
	VINSERTI128    $1, X14, Y14, Y14
	VPADDD         first<>(SB), Y14, Y14

	VPXOR Y8, Y8, Y8
	VPXOR Y9, Y9, Y9
	VPXOR Y10, Y10, Y10
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7

	// R8: vectors of 32 bytes. R10: how many of them the first step has, 1 to 4, so that all later
	// steps have four. R12: how many steps follow. AX: bytes of the last vector, 1 to 32.
	LEAQ 31(CX), R8
	SHRQ $5, R8
	JZ   empty
	LEAQ -1(R8), R12
	MOVQ R12, AX
	SHLQ $5, AX
	NEGQ AX
	ADDQ CX, AX
	MOVQ R12, R10
	ANDQ $3, R10
	INCQ R10
	SHRQ $2, R12

	// R11: where the powers of the last step begin, so that its last block meets H^2.
	MOVQ    R10, R11
	MOVL    $4, R13
	TESTQ   R12, R12
	CMOVQNE R13, R11
	SUBQ    R11, R8
	SHLQ    $5, R8
	NEGQ    R8
	ADDQ    CX, R8
	ADDQ    $15, R8
	ANDQ    $-16, R8 // bytes of the last step, rounded up to blocks
	SHLQ    $5, R11
	SUBQ    R8, R11
	LEAQ    176(BX)(R11*1), R11

	// Less than a vector at the end is copied to the stack, with zeros behind it, and is encrypted
	// there. R9: where it goes from there.
	LEAQ    (DI)(CX*1), R9
	SUBQ    AX, R9
	CMPQ    AX, $32
	JEQ     place
	LEAQ    (SI)(CX*1), R14
	SUBQ    AX, R14
	LEAQ    tail-32(SP), R15
	VMOVDQU Y5, (R15)
	CMPQ    AX, $16
	JGE     in16
	CMPQ    AX, $8
	JGE     in8
	CMPQ    AX, $4
	JGE     in4
	MOVQ    AX, R8
	SHRQ    $1, R8
	MOVBLZX (R14), R13
	MOVB    R13, (R15)
	MOVBLZX (R14)(R8*1), R13
	MOVB    R13, (R15)(R8*1)
	MOVBLZX -1(R14)(AX*1), R13
	MOVB    R13, -1(R15)(AX*1)
	JMP     place

in16:
	VMOVDQU (R14), X0
	VMOVDQU -16(R14)(AX*1), X1
	VMOVDQU X0, (R15)
	VMOVDQU X1, -16(R15)(AX*1)
	JMP     place

in8:
	MOVQ (R14), R8
	MOVQ -8(R14)(AX*1), R13
	MOVQ R8, (R15)
	MOVQ R13, -8(R15)(AX*1)
	JMP  place

in4:
	MOVL (R14), R8
	MOVL -4(R14)(AX*1), R13
	MOVL R8, (R15)
	MOVL R13, -4(R15)(AX*1)

place:
	MOVQ  R10, R8
	SHLQ  $5, R8
	TESTQ R12, R12
	JNZ   more
	LAST(R8)
	JMP   start

more:
	LEAQ -32(SI)(R8*1), R14
	LEAQ -32(DI)(R8*1), R15
	LEAQ ones<>(SB), R13

start:
	CMPQ R10, $2
	JLT  first1
	JEQ  first2
	CMPQ R10, $3
	JEQ  first3

	KEY(0)
	COUNT(Y0)
	COUNT(Y1)
	COUNT(Y2)
	COUNT(Y3)
	ROUNDS(ROUND4)
	FINISH(0, Y0, Y8)
	FINISH(32, Y1, Y9)
	FINISH(64, Y2, Y10)
	FINISHLAST(Y3, Y11)
	TESTQ R12, R12
	JZ    hash4
	ADDQ  $128, SI
	ADDQ  $128, DI
	JMP   steps

first3:
	KEY(0)
	COUNT(Y0)
	COUNT(Y1)
	COUNT(Y2)
	ROUNDS(ROUND3)
	FINISH(0, Y0, Y9)
	FINISH(32, Y1, Y10)
	FINISHLAST(Y2, Y11)
	TESTQ R12, R12
	JZ    hash3
	ADDQ  $96, SI
	ADDQ  $96, DI
	JMP   steps

first2:
	KEY(0)
	COUNT(Y0)
	COUNT(Y1)
	ROUNDS(ROUND2)
	FINISH(0, Y0, Y10)
	FINISHLAST(Y1, Y11)
	TESTQ R12, R12
	JZ    hash2
	ADDQ  $64, SI
	ADDQ  $64, DI
	JMP   steps

first1:
	KEY(0)
	COUNT(Y0)
	ROUNDS(ROUND1)
	FINISHLAST(Y0, Y11)
	TESTQ R12, R12
	JZ    hash1
	ADDQ  $32, SI
	ADDQ  $32, DI

steps:
	DECQ R12
	JZ   last

step:
	KEY(0)
	COUNT(Y0)
	COUNT(Y1)
	COUNT(Y2)
	COUNT(Y3)
	STITCHED
	FINISH(0, Y0, Y8)
	FINISH(32, Y1, Y9)
	FINISH(64, Y2, Y10)
	FINISH(96, Y3, Y11)
	ADDQ $128, SI
	ADDQ $128, DI
	DECQ R12
	JNZ  step

last:
	MOVL $128, R8
	LAST(R8)
	KEY(0)
	COUNT(Y0)
	COUNT(Y1)
	COUNT(Y2)
	COUNT(Y3)
	STITCHED
	FINISH(0, Y0, Y8)
	FINISH(32, Y1, Y9)
	FINISH(64, Y2, Y10)
	FINISHLAST(Y3, Y11)
	VPXOR Y7, Y8, Y8
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7

hash4:
	VMOVDQU (R11), Y12
	MULTIPLY(Y8)

hash3:
	VMOVDQU 32(R11), Y12
	MULTIPLY(Y9)

hash2:
	VMOVDQU 64(R11), Y12
	MULTIPLY(Y10)

hash1:
	VMOVDQU 96(R11), Y12
	MULTIPLY(Y11)

	CMPQ AX, $32
	JEQ  length
	LEAQ tail-32(SP), R15
	CMPQ AX, $16
	JGE  out16
	CMPQ AX, $8
	JGE  out8
	CMPQ AX, $4
	JGE  out4
	MOVQ    AX, R8
	SHRQ    $1, R8
	MOVBLZX (R15), R13
	MOVB    R13, (R9)
	MOVBLZX (R15)(R8*1), R13
	MOVB    R13, (R9)(R8*1)
	MOVBLZX -1(R15)(AX*1), R13
	MOVB    R13, -1(R9)(AX*1)
	JMP     wipe

out16:
	VMOVDQU (R15), X0
	VMOVDQU -16(R15)(AX*1), X1
	VMOVDQU X0, (R9)
	VMOVDQU X1, -16(R9)(AX*1)
	JMP     wipe

out8:
	MOVQ (R15), R8
	MOVQ -8(R15)(AX*1), R13
	MOVQ R8, (R9)
	MOVQ R13, -8(R9)(AX*1)
	JMP  wipe

out4:
	MOVL (R15), R8
	MOVL -4(R15)(AX*1), R13
	MOVL R8, (R9)
	MOVL R13, -4(R9)(AX*1)

wipe:
	VPXOR   Y0, Y0, Y0
	VMOVDQU Y0, (R15)

length:
	// The block of lengths in bits: none of additional data, so half of the products are zero.
	SHLQ       $3, CX
	VMOVQ      CX, X8
	VMOVDQU    (19*16)(BX), X12
	VPCLMULQDQ $0x00, X12, X8, X15
	VPCLMULQDQ $0x10, X12, X8, X8
	VPXOR      Y15, Y5, Y5
	VPXOR      Y8, Y6, Y6
	REDUCE1
	REDUCE2
	VEXTRACTI128 $1, Y7, X15
	VPXOR        X15, X7, X7
	VPSHUFB      X13, X7, X7
	VPXOR        (DX), X7, X7
	VMOVDQU      X7, (DX)
	VZEROALL
	RET

empty:
	ROUNDS(ROUND0)
	JMP length

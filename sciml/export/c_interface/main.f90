! Calls the model in a time loop: ./main_f model.onnx [steps]
program main
    use, intrinsic :: iso_c_binding
    use sciml_model
    implicit none

    type :: array_t
        real(c_float), allocatable :: values(:)
    end type array_t

    type(model_t) :: model
    type(array_t), allocatable, target :: inputs(:)
    type(c_ptr), allocatable :: places(:)
    real(c_float), allocatable :: output(:)
    character(len=1024) :: path, text
    integer :: steps, status, step, i
    integer(c_int64_t) :: into, out, k

    path = "model.onnx"
    steps = 3
    if (command_argument_count() > 0) call get_command_argument(1, path)
    if (command_argument_count() > 1) then
        call get_command_argument(2, text)
        read (text, *) steps
    end if

    call model_load(model, path, 1, status)
    if (status /= 0) then
        print "(a)", trim(path)//": "//model_message()
        stop 1
    end if

    allocate (inputs(model_inputs(model)), places(model_inputs(model)))
    do i = 1, size(inputs)
        allocate (inputs(i)%values(model_size(model, i)))
        do k = 1, size(inputs(i)%values, kind=c_int64_t)
            inputs(i)%values(k) = real(1.0d0 + 0.5d0*sin(0.1d0*real(k, c_double)), c_float)
        end do
        places(i) = c_loc(inputs(i)%values)
    end do

    into = model_size(model, 1)
    out = model_size(model, 0)
    allocate (output(out))
    do step = 1, steps
        call model_run(model, 1, places, output, status)
        if (status /= 0) then
            print "(a)", model_message()
            stop 1
        end if
        print "(a, 1x, i0, 3(1x, es16.8))", "step", step, output(1), output(out), norm2(real(output, c_double))

        ! What was predicted follows what was seen: the oldest values leave.
        if (out <= into) then
            inputs(1)%values = [inputs(1)%values(out + 1:), output]
        end if
    end do

    call model_free(model)
end program main
